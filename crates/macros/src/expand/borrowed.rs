//! The arguments that a method borrows from its request.
//!
//! The struct of the arguments has a lifetime then. A reference is a `Cow` in it, which is an owned value where the argument does not
//! stand in the request as it is: a string with an escape in JSON, or bytes there.

use proc_macro2::TokenStream;
use quote::quote;
use syn::visit_mut::{self, VisitMut};
use syn::{Lifetime, Type, parse_quote};

use crate::byte_types::is_bytes;
use crate::method::Method;
use crate::parameter::Parameter;
use crate::service::Service;
use crate::type_rules::Borrowed;

/// The lifetime of the request.
fn lifetime() -> Lifetime {
    parse_quote!('__request)
}

/// Returns the lifetime of the arguments' struct, with a comma, if the method borrows.
pub(super) fn generic(method: &Method) -> Option<TokenStream> {
    let lifetime = lifetime();
    method.parameters.borrow().then(|| quote!(#lifetime,))
}

/// Returns the type of the field of a parameter.
pub(super) fn field_type(parameter: &Parameter) -> Type {
    let lifetime = lifetime();
    match parameter.reference() {
        Some(Borrowed::Text) => parse_quote!(::std::borrow::Cow<#lifetime, str>),
        Some(Borrowed::Bytes) => parse_quote!(::std::borrow::Cow<#lifetime, [u8]>),
        None => {
            let mut ty = parameter.ty.clone();
            NameElided.visit_type_mut(&mut ty);
            ty
        }
    }
}

/// Returns serde's attributes of the field of a parameter that is borrowed.
pub(super) fn attributes(service: &Service, parameter: &Parameter) -> TokenStream {
    let farcall = &service.farcall;
    let borrowed = quote!(#farcall::__private::as_bytes::borrowed).to_string().replace(' ', "");
    let is_cow = parameter.reference() == Some(Borrowed::Bytes) || is_bytes(&parameter.ty);
    if is_cow { quote!(#[serde(borrow, with = #borrowed)]) } else { quote!(#[serde(borrow)]) }
}

/// Returns the value of a field in the client, where the parameter has the name of the field.
pub(super) fn to_field(parameter: &Parameter) -> TokenStream {
    let ident = &parameter.ident;
    match parameter.reference() {
        Some(_) => quote!(#ident: ::std::borrow::Cow::Borrowed(#ident)),
        None => quote!(#ident),
    }
}

/// Returns the argument that the server passes to the method.
pub(super) fn to_argument(parameter: &Parameter, arguments: &TokenStream) -> TokenStream {
    let ident = &parameter.ident;
    match parameter.reference() {
        Some(_) => quote!(&*#arguments.#ident),
        None => quote!(#arguments.#ident),
    }
}

/// Replaces the lifetime `'_` by that of the request.
struct NameElided;

impl VisitMut for NameElided {
    fn visit_lifetime_mut(&mut self, found: &mut Lifetime) {
        if found.ident == "_" {
            *found = lifetime();
        }
        visit_mut::visit_lifetime_mut(self, found);
    }
}
