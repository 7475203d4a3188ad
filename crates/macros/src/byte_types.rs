//! The types that are sent as byte strings, as far as a macro can see them: by their names.

use syn::{GenericArgument, PathArguments, PathSegment, Type, TypePath};

use crate::type_rules::ungrouped;

/// Returns `true` for byte vectors and for containers of them, for which `farcall::as_bytes::AsBytes` is
/// implemented: `Vec<u8>`, `Box<[u8]>`, `Option<Vec<u8>>`, `HashMap<String, Vec<u8>>`.
pub(crate) fn is_bytes(ty: &Type) -> bool {
    let Some(last) = standard(ty) else { return false };
    let arguments = arguments(last);
    match (&*last.ident.to_string(), &arguments[..]) {
        ("Vec", [item]) => is_u8(item) || is_bytes(item),
        ("Box" | "Arc" | "Cow", [item]) => {
            matches!(ungrouped(item), Type::Slice(slice) if is_u8(&slice.elem))
        }
        ("Option", [item]) | ("HashMap" | "BTreeMap", [_, item]) => is_bytes(item),
        _ => false,
    }
}

/// Returns `true` for `Vec<u8>`, which is sent without a copy.
pub(crate) fn is_byte_vector(ty: &Type) -> bool {
    standard(ty)
        .is_some_and(|last| last.ident == "Vec" && matches!(&arguments(last)[..], [item] if is_u8(item)))
}

/// Returns the last segment of a path into the standard library, or of a bare name.
fn standard(ty: &Type) -> Option<&PathSegment> {
    let Type::Path(TypePath { qself: None, path }) = ungrouped(ty) else { return None };
    let first = path.segments.first()?;
    let is_standard = path.segments.len() == 1
        || ["std", "core", "alloc"].iter().any(|krate| first.ident == krate && first.arguments.is_none());
    is_standard.then(|| path.segments.last()).flatten()
}

/// Returns the type arguments of a segment.
fn arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return Vec::new() };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

fn is_u8(ty: &Type) -> bool {
    matches!(ungrouped(ty), Type::Path(TypePath { qself: None, path }) if path.is_ident("u8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_vectors_are_known_by_their_names() {
        let parse = |text: &str| syn::parse_str::<Type>(text).unwrap();
        for text in [
            "Vec<u8>",
            "std::vec::Vec<u8>",
            "::alloc::vec::Vec<u8>",
            "Box<[u8]>",
            "std::sync::Arc<[u8]>",
            "Cow<'static, [u8]>",
            "Option<Vec<u8>>",
            "Vec<Option<Box<[u8]>>>",
            "HashMap<String, Vec<u8>>",
            "(Vec<u8>)",
        ] {
            assert!(is_bytes(&parse(text)), "{text}");
        }
        for text in [
            "Vec<i8>",
            "shop::Vec<u8>",
            "[u8; 4]",
            "Bytes",
            "String",
            "Option<u8>",
            "HashMap<Vec<u8>, u8>",
            "(Vec<u8>, u8)",
            "Box<Vec<u8>>",
            "Vec<T>",
            "HashSet<Vec<u8>>",
            "<Vec<u8> as Trait>::Vec<u8>",
        ] {
            assert!(!is_bytes(&parse(text)), "{text}");
        }
        assert!(is_byte_vector(&parse("Vec<u8>")) && !is_byte_vector(&parse("Vec<Vec<u8>>")));
    }
}
