//! Names of generated items.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote_spanned};
use syn::Type;
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;

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

/// Returns an identifier for generated code that cannot collide with the user's names.
pub(super) fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// Returns the type of the error that a client receives from a method that returns `error`: the method's own.
pub(super) fn error_type(service: &Service, error: &Type) -> TokenStream {
    let farcall = &service.farcall;
    // The location of the error type, so that missing traits are reported there.
    quote_spanned!(error.span()=> <#error as #farcall::__private::IntoMethodError>::Application)
}
