//! The arguments of a method: one struct, which clients serialize and servers deserialize.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::quote;

use super::names::{arguments_ident, full_name};
use super::{borrowed, checked};
use crate::byte_types;
use crate::method::Method;
use crate::parameter::Parameter;
use crate::service::Service;
use crate::type_text::type_text;

/// Generates the struct. It derives both traits whatever the features, so that enabling a feature adds no
/// requirements on the types of its fields.
pub(super) fn expand(service: &Service, method: &Method) -> TokenStream {
    let farcall = &service.farcall;
    let serde_path = quote!(#farcall::__private::serde).to_string().replace(' ', "");
    let as_bytes = quote!(#farcall::__private::as_bytes).to_string().replace(' ', "");
    let derive = derive(service, method);
    let conditions = method.conditions();
    let name = full_name(service, method);
    let expecting = expecting(&method.parameters.sent);
    let ident = arguments_ident(service, method);
    let checked = checked::of_method(method);
    let generics = checked.iter().map(|checked| &checked.ident);
    let lifetime = borrowed::generic(method);
    let generics = (!checked.is_empty() || lifetime.is_some()).then(|| quote!(<#lifetime #(#generics),*>));
    let bound = (!checked.is_empty()).then(|| {
        let bounds = checked::bounds(service, &checked);
        let bounds = quote!(#(#bounds),*).to_string();
        quote!(#[serde(bound(serialize = #bounds, deserialize = #bounds))])
    });
    let types = checked::field_types(method);
    let fields = method.parameters.sent.iter().zip(&types).map(|(parameter, ty)| {
        let ident = &parameter.ident;
        // serde accepts a map without an `Option` field by itself, an array only with a default.
        let default = parameter.is_optional().then(|| quote!(#[serde(default)]));
        let form = if parameter.borrows() {
            Some(borrowed::attributes(service, parameter))
        } else {
            byte_types::is_bytes(ty).then(|| quote!(#[serde(with = #as_bytes)]))
        };
        quote!(#default #form #ident: #ty)
    });
    quote! {
        #(#conditions)*
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code)]
        #derive
        #[serde(crate = #serde_path, rename = #name, expecting = #expecting)]
        #bound
        struct #ident #generics {
            #(#fields,)*
        }
    }
}

/// Generates the derives, located at the method, so that serde reports missing traits of the arguments there.
fn derive(service: &Service, method: &Method) -> TokenStream {
    let farcall = &service.farcall;
    let derive =
        quote!(#[derive(#farcall::__private::serde::Serialize, #farcall::__private::serde::Deserialize)]);
    placed(derive, method.ident().span())
}

/// Returns the tokens at another location, with unchanged hygiene.
fn placed(tokens: TokenStream, place: Span) -> TokenStream {
    let tokens = tokens.into_iter().map(|mut token| {
        if let TokenTree::Group(group) = &token {
            token = Group::new(group.delimiter(), placed(group.stream(), place)).into();
        }
        token.set_span(token.span().located_at(place));
        token
    });
    tokens.collect()
}

/// Returns the description of the arguments for decode errors: `the arguments (a: i64, b: i64)`.
fn expecting(parameters: &[Parameter]) -> String {
    if parameters.is_empty() {
        return "no arguments".to_owned();
    }
    let list: Vec<_> = parameters.iter().map(|p| format!("{}: {}", p.name(), type_text(&p.ty))).collect();
    format!("the arguments ({})", list.join(", "))
}
