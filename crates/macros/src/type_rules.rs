//! Which types can be sent: owned ones that both sides can name.

use syn::visit::Visit;
use syn::{Ident, Lifetime, Type, TypeImplTrait, TypeInfer, TypeReference};

use crate::errors::Errors;
use crate::type_text::type_text;

/// Adds what cannot be sent in a parameter's or a result's type.
pub(crate) fn check(ty: &Type, errors: &mut Errors) {
    Rules { errors }.visit_type(ty);
}

/// The type behind the invisible groups that a macro puts around types it was given.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        ty => ty,
    }
}

struct Rules<'a> {
    errors: &'a mut Errors,
}

impl Visit<'_> for Rules<'_> {
    fn visit_type_reference(&mut self, ty: &TypeReference) {
        let message = format!("what is sent is owned: write `{}`", owned(&ty.elem));
        self.errors.add(ty, message);
    }

    fn visit_type_impl_trait(&mut self, ty: &TypeImplTrait) {
        self.errors.add(ty, "both sides must know the type: write a concrete one instead of `impl ..`");
    }

    fn visit_type_infer(&mut self, ty: &TypeInfer) {
        self.errors.add(ty, "both sides must know the type: write it out");
    }

    fn visit_lifetime(&mut self, lifetime: &Lifetime) {
        if lifetime.ident != "static" {
            let message = format!("what is sent is owned: write a type without `{lifetime}`, or `'static`");
            self.errors.add(lifetime, message);
        }
    }

    fn visit_ident(&mut self, ident: &Ident) {
        if ident == "Self" {
            self.errors.add(ident, "the client knows no `Self`: write the type that is meant");
        }
    }
}

/// The owned type to write instead of a reference to `ty`.
fn owned(ty: &Type) -> String {
    match ungrouped(ty) {
        Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
        Type::Slice(slice) => match type_text(&slice.elem) {
            // As a byte string; a `Vec<u8>` is a list of numbers.
            byte if byte == "u8" => "farcall::Bytes".to_owned(),
            element => format!("Vec<{element}>"),
        },
        Type::Reference(inner) => owned(&inner.elem),
        other => type_text(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reference_has_an_owned_type_to_write_instead() {
        for (reference, instead) in [
            ("&str", "String"),
            ("&'static str", "String"),
            ("&mut Vec<i64>", "Vec<i64>"),
            ("&[String]", "Vec<String>"),
            ("&[u8]", "farcall::Bytes"),
            ("&&str", "String"),
        ] {
            let Type::Reference(ty) = syn::parse_str(reference).unwrap() else { panic!("{reference}") };
            assert_eq!(owned(&ty.elem), instead, "{reference}");
        }
    }
}
