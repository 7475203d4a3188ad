//! The rules for types that can be sent: both sides can name them, and all but arguments are owned.

use syn::visit::Visit;
use syn::{Ident, Lifetime, Type, TypeImplTrait, TypeInfer, TypeReference};

use crate::errors::Errors;
use crate::type_text::type_text;

/// Adds a mistake for each part of a result's or item's type that cannot be sent.
pub(crate) fn check(ty: &Type, errors: &mut Errors) {
    Rules { errors, may_borrow: false }.visit_type(ty);
}

/// Adds a mistake for each part of an argument's type that cannot be sent. An argument may borrow from the request that it came
/// in: `&str`, `&[u8]`, and types with the lifetime `'_`.
pub(crate) fn check_argument(ty: &Type, errors: &mut Errors) {
    if Borrowed::of(ty).is_some() {
        return;
    }
    Rules { errors, may_borrow: true }.visit_type(ty);
}

/// A reference that an argument may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Borrowed {
    /// `&str`
    Text,
    /// `&[u8]`
    Bytes,
}

impl Borrowed {
    /// Returns the reference that a type is; `None` for all other types.
    pub(crate) fn of(ty: &Type) -> Option<Self> {
        let Type::Reference(TypeReference { lifetime, mutability: None, elem, .. }) = ungrouped(ty) else {
            return None;
        };
        if lifetime.as_ref().is_some_and(|lifetime| lifetime.ident != "_") {
            return None;
        }
        match ungrouped(elem) {
            Type::Path(path) if path.path.is_ident("str") => Some(Self::Text),
            Type::Slice(slice) if type_text(&slice.elem) == "u8" => Some(Self::Bytes),
            _ => None,
        }
    }
}

/// Returns `true` if an argument's type borrows.
pub(crate) fn borrows(ty: &Type) -> bool {
    let mut elided = Elided { found: false };
    elided.visit_type(ty);
    elided.found || Borrowed::of(ty).is_some()
}

/// Returns `true` if the last name of a type is `Cow`.
pub(crate) fn is_cow(ty: &Type) -> bool {
    let Type::Path(path) = ungrouped(ty) else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "Cow")
}

/// Finds the lifetime `'_`.
struct Elided {
    found: bool,
}

impl Visit<'_> for Elided {
    fn visit_lifetime(&mut self, lifetime: &Lifetime) {
        self.found |= lifetime.ident == "_";
    }
}

/// Returns the type inside of the invisible groups that a macro puts around its type arguments.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        ty => ty,
    }
}

struct Rules<'a> {
    errors: &'a mut Errors,
    /// `true` if the lifetime `'_` may be in the type.
    may_borrow: bool,
}

impl Visit<'_> for Rules<'_> {
    fn visit_type_reference(&mut self, ty: &TypeReference) {
        let message = format!("references cannot be sent: write `{}`", owned(&ty.elem));
        self.errors.add(ty, message);
    }

    fn visit_type_impl_trait(&mut self, ty: &TypeImplTrait) {
        self.errors.add(ty, "`impl` types cannot be sent: write a concrete type");
    }

    fn visit_type_infer(&mut self, ty: &TypeInfer) {
        self.errors.add(ty, "the type cannot be inferred here: write it out");
    }

    fn visit_lifetime(&mut self, lifetime: &Lifetime) {
        if lifetime.ident == "_" && self.may_borrow {
            return;
        }
        if lifetime.ident != "static" {
            let message =
                format!("borrowed types cannot be sent: write a type without `{lifetime}`, or `'static`");
            self.errors.add(lifetime, message);
        }
    }

    fn visit_ident(&mut self, ident: &Ident) {
        if ident == "Self" {
            self.errors.add(ident, "the client has no `Self`: write the type's name");
        }
    }
}

/// Returns the owned type to write instead of a reference to `ty`.
pub(crate) fn owned(ty: &Type) -> String {
    match ungrouped(ty) {
        Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
        Type::Slice(slice) => match type_text(&slice.elem) {
            // `Bytes` is cloned and received without a copy.
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
    fn every_reference_has_an_owned_replacement() {
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
