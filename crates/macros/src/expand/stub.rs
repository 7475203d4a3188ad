//! The client's methods as a trait, so that code can be generic over the client and a test can use a plain
//! struct instead.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;

use super::names::error_type;
use crate::method::Method;
use crate::output::Output;
use crate::parameter::Parameter;
use crate::service::Service;

/// Generates the trait and its implementation by the client, if the client is compiled in.
pub(super) fn expand(service: &Service) -> TokenStream {
    let Service { farcall, item, .. } = service;
    let vis = &item.vis;
    let name = item.ident.unraw();
    let stub = format_ident!("{name}Stub", span = item.ident.span());
    let client = format_ident!("{name}Client", span = item.ident.span());
    let has_streams = service.methods.iter().any(|method| !method.parameters.streams.is_empty());
    let streams = if has_streams {
        " A struct that has to return streams gets them from a client of a service in memory."
    } else {
        ""
    };
    let doc = format!(
        "The methods of [`{client}`] as a trait.\n\nCode that is generic over it takes a client, or, in a test, \
         a plain struct that implements it. A call has no settings here: those of the channel hold.{streams}"
    );
    let declarations = service.methods.iter().map(|method| {
        let attributes = method.for_client();
        let signature = signature(service, method);
        quote!(#(#attributes)* #signature;)
    });
    let definitions = service.methods.iter().map(|method| {
        let (conditions, ident, signature) =
            (method.conditions(), method.ident(), signature(service, method));
        let arguments = method.parameters.sent.iter().map(|Parameter { ident, .. }| ident);
        // A call of items without serde's traits is no future: that is reported at their type.
        let location = method.parameters.streams.location().unwrap_or_else(Span::call_site);
        let call = quote_spanned! {location=>
            ::core::future::IntoFuture::into_future(#client::#ident(self, #(#arguments),*))
        };
        quote! {
            #(#conditions)*
            #signature {
                #call
            }
        }
    });
    quote! {
        #farcall::__private::if_client! {
            #[doc = #doc]
            #[allow(dead_code, clippy::many_single_char_names, clippy::too_many_arguments, clippy::used_underscore_binding, clippy::wrong_self_convention)]
            #vis trait #stub: ::core::marker::Send + ::core::marker::Sync {
                #(#declarations)*
            }

            #[allow(deprecated, clippy::many_single_char_names, clippy::too_many_arguments, clippy::used_underscore_binding, clippy::wrong_self_convention)]
            impl #stub for #client {
                #(#definitions)*
            }
        }
    }
}

fn signature(service: &Service, method: &Method) -> TokenStream {
    let farcall = &service.farcall;
    let ident = method.ident();
    let parameters = method.parameters.sent.iter().map(|Parameter { ident, ty }| quote!(#ident: #ty));
    let outcome = if method.one_way {
        quote!(::core::result::Result<(), #farcall::RpcError>)
    } else {
        let (value, error) = match &method.output {
            Output::Plain(ty) => (ty, None),
            Output::Fallible { value, error, .. } => (value, Some(error_type(service, error))),
        };
        let types = error.as_ref().map_or_else(|| quote!(#value), |error| quote!(#value, #error));
        let items = method.parameters.streams.types();
        let success = match (items.sent, items.received) {
            (None, None) => quote!(#value),
            (None, Some(received)) => quote!(#farcall::client::ItemStream<#received, #types>),
            (Some(sent), None) => quote!(#farcall::client::ItemSink<#sent, #types>),
            (Some(sent), Some(received)) => quote!(#farcall::client::Exchange<#sent, #received, #types>),
        };
        quote!(::core::result::Result<#success, #farcall::CallError<#error>>)
    };
    quote! {
        fn #ident(&self, #(#parameters),*)
            -> impl ::core::future::Future<Output = #outcome> + ::core::marker::Send
    }
}
