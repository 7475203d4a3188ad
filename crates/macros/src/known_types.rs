//! The types that serde can serialize for sure, as far as a macro can see them: by their names.

use syn::visit::{self, Visit};
use syn::{PathSegment, Type};

/// The names in paths of such types.
const NAMES: [&str; 42] = [
    "bool",
    "char",
    "i8",
    "i16",
    "i32",
    "i64",
    "i128",
    "isize",
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "usize",
    "f32",
    "f64",
    "String",
    "str",
    "Vec",
    "Option",
    "Box",
    "Arc",
    "Cow",
    "HashMap",
    "HashSet",
    "BTreeMap",
    "BTreeSet",
    "VecDeque",
    "Duration",
    "Bytes",
    "std",
    "core",
    "alloc",
    "string",
    "vec",
    "option",
    "boxed",
    "sync",
    "borrow",
    "collections",
    "time",
    "farcall",
];

/// Returns `true` if serde can serialize and deserialize the type, judged by the names in it.
pub(crate) fn is_known(ty: &Type) -> bool {
    let mut names = Names { are_known: true };
    names.visit_type(ty);
    names.are_known
}

struct Names {
    are_known: bool,
}

impl Visit<'_> for Names {
    fn visit_path_segment(&mut self, segment: &PathSegment) {
        self.are_known &= NAMES.iter().any(|name| segment.ident == name);
        visit::visit_path_segment(self, segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_the_standard_library_are_known() {
        let is = |text: &str| is_known(&syn::parse_str(text).unwrap());
        for text in
            ["i64", "(u8, String)", "std::collections::HashMap<String, Vec<Option<u8>>>", "[u8; 4]", "()"]
        {
            assert!(is(text), "{text}");
        }
        for text in ["Order", "Vec<Order>", "shop::Order", "(u8, Order)", "HashMap<String, Order>"] {
            assert!(!is(text), "{text}");
        }
    }
}
