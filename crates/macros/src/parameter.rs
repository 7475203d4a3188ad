//! [`Parameter`]: a name and a type.

use syn::ext::IdentExt as _;
use syn::{Ident, Pat, PatType, Type, TypePath};

use crate::byte_types::is_bytes;
use crate::errors::Errors;
use crate::type_rules::{self, Borrowed, ungrouped};
use crate::type_text::type_text;

/// A parameter that is sent, or a half of a stream.
pub(crate) struct Parameter {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
}

impl Parameter {
    /// Parses a parameter that is sent.
    pub(crate) fn parse(parameter: &PatType, has_body: bool, errors: &mut Errors) -> Option<Self> {
        type_rules::check_argument(&parameter.ty, errors);
        let is_inside = is_bytes(&parameter.ty) && !type_rules::is_cow(&parameter.ty);
        if is_inside && type_rules::borrows(&parameter.ty) {
            let message = "only `Cow<'_, [u8]>` itself can be borrowed: write `Vec<u8>` in its place here";
            errors.add(&parameter.ty, message);
        }
        Self::parse_name(parameter, has_body, errors)
    }

    /// Parses a parameter whose type has rules of its kind.
    pub(crate) fn parse_name(parameter: &PatType, has_body: bool, errors: &mut Errors) -> Option<Self> {
        let ident = match &*parameter.pat {
            Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
                if name.mutability.is_some() && !has_body {
                    let message = format!("`mut` belongs in the implementation: write `{}`", name.ident);
                    errors.add(&parameter.pat, message);
                }
                &name.ident
            }
            Pat::Wild(wild) => {
                errors.add(wild, "arguments are sent by name: write one, such as `_unused`");
                return None;
            }
            pattern => {
                errors.add(
                    pattern,
                    "arguments are sent by name: write one, and destructure the value in the method",
                );
                return None;
            }
        };
        Some(Self { ident: ident.clone(), ty: (*parameter.ty).clone() })
    }

    /// Returns the name on the wire.
    pub(crate) fn name(&self) -> String {
        self.ident.unraw().to_string()
    }

    /// Returns `true` if the method borrows it from the request that it came in.
    pub(crate) fn borrows(&self) -> bool {
        type_rules::borrows(&self.ty)
    }

    /// Returns the reference that it is, if it is one.
    pub(crate) fn reference(&self) -> Option<Borrowed> {
        Borrowed::of(&self.ty)
    }

    /// Returns the type as it is described: the owned one for a reference.
    pub(crate) fn described_type(&self) -> String {
        match self.reference() {
            Some(Borrowed::Text) => "String".to_owned(),
            Some(Borrowed::Bytes) => "Bytes".to_owned(),
            None if self.borrows() && type_rules::is_cow(&self.ty) => match &*type_text(&self.ty) {
                text if text.ends_with(" str>") => "String".to_owned(),
                text if text.ends_with(" [u8]>") => "Bytes".to_owned(),
                text => text.to_owned(),
            },
            None => type_text(&self.ty),
        }
    }

    /// Returns `true` if callers may omit it, because its type has the name `Option`.
    pub(crate) fn is_optional(&self) -> bool {
        last_ident(&self.ty).is_some_and(|ident| ident == "Option")
    }
}

/// Returns the last name in the path of a type.
pub(crate) fn last_ident(ty: &Type) -> Option<&Ident> {
    let Type::Path(TypePath { path, .. }) = ungrouped(ty) else { return None };
    path.segments.last().map(|last| &last.ident)
}
