//! The rules for types that can be sent: they are owned, and both sides can name them.

use syn::visit::Visit;
use syn::{Ident, Lifetime, Type, TypeImplTrait, TypeInfer, TypeReference};

use crate::errors::Errors;
use crate::type_text::type_text;

/// Adds a mistake for each part of a parameter's or result's type that cannot be sent.
pub(crate) fn check(ty: &Type, errors: &mut Errors) {
    Rules { errors }.visit_type(ty);
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
fn owned(ty: &Type) -> String {
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
