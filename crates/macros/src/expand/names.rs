//! Names of generated items.

use proc_macro2::{Ident, Span};
use quote::format_ident;
use syn::ext::IdentExt as _;

use crate::method::Method;
use crate::service::Service;

/// Returns the name of the struct that holds a method's arguments. It appears in serde's messages, so it
/// resembles the method's name.
pub(super) fn arguments_ident(service: &Service, method: &Method) -> Ident {
    format_ident!("__{}_{}", service.item.ident.unraw(), method.ident().unraw(), span = Span::call_site())
}

/// Returns the name by which a method is called over the wire.
pub(super) fn full_name(service: &Service, method: &Method) -> String {
    format!("{}.{}", service.name.text, method.name.text)
}

/// Returns a variable of generated code that cannot collide with the user's names.
pub(super) fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}
