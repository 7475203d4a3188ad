//! The client side: a struct with every method of the trait.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;

use super::names::{arguments_ident, error_type, full_name, local};
use super::{borrowed, checked};
use crate::byte_types;
use crate::method::Method;
use crate::output::Output;
use crate::parameter::Parameter;
use crate::rpc::Idempotence;
use crate::service::Service;

/// Generates the client, if the client is compiled in.
pub(super) fn expand(service: &Service) -> TokenStream {
    let Service { farcall, item, .. } = service;
    let vis = &item.vis;
    let client = format_ident!("{}Client", item.ident.unraw(), span = item.ident.span());
    let doc = format!("Calls the service [`{}`] over a channel. Cloning is cheap.", item.ident.unraw());
    let methods = service.methods.iter().map(|method| method_of_client(service, method));
    quote! {
        #farcall::__private::if_client! {
            #[doc = #doc]
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            #[allow(dead_code)]
            #vis struct #client {
                channel: #farcall::Channel,
            }

            // The lints report these for the signatures of the trait already.
            #[allow(
                dead_code,
                clippy::too_many_arguments,
                clippy::used_underscore_binding,
                clippy::wrong_self_convention
            )]
            impl #client {
                /// Creates a client that calls over this channel, or over this connection.
                #[must_use]
                #vis fn new(channel: impl ::core::convert::Into<#farcall::Channel>) -> Self {
                    Self { channel: ::core::convert::Into::into(channel) }
                }

                /// Creates a channel to this address and calls over it. The channel connects when the first
                /// call is made.
                ///
                /// # Errors
                ///
                /// The address does not parse.
                #vis fn connect<A>(
                    address: A,
                ) -> ::core::result::Result<Self, #farcall::__private::BuildError>
                where
                    A: ::core::convert::TryInto<#farcall::Address>,
                    A::Error: ::core::convert::Into<#farcall::transport::AddressError>,
                {
                    ::core::result::Result::Ok(Self::new(#farcall::Channel::to(address)?))
                }

                /// Returns the channel that it calls over.
                #[must_use]
                #vis const fn channel(&self) -> &#farcall::Channel {
                    &self.channel
                }

                #(#methods)*
            }

            impl ::core::convert::From<#farcall::Channel> for #client {
                fn from(channel: #farcall::Channel) -> Self {
                    Self { channel }
                }
            }
        }
    }
}

fn method_of_client(service: &Service, method: &Method) -> TokenStream {
    let farcall = &service.farcall;
    let vis = &service.item.vis;
    let ident = method.ident();
    let attributes = method.for_client();
    let parameters = method.parameters.sent.iter().map(|Parameter { ident, ty }| quote!(#ident: #ty));
    let call = call(service, method);
    let (returns, call) = if method.one_way {
        // `use<>`: the future borrows nothing, so it can be spawned.
        let returns = quote! {
            impl ::core::future::Future<
                Output = ::core::result::Result<(), #farcall::RpcError>
            > + ::core::marker::Send + use<>
        };
        (returns, quote!(#call.notify()))
    } else {
        (returns(service, method), call)
    };
    quote! {
        #(#attributes)*
        #vis fn #ident(&self, #(#parameters),*) -> #returns {
            #call
        }
    }
}

/// Returns the type of a call of the method.
fn returns(service: &Service, method: &Method) -> TokenStream {
    let farcall = &service.farcall;
    let types = match &method.output {
        Output::Plain(ty) => quote!(#ty),
        Output::Fallible { value, error, .. } => {
            let error = error_type(service, error);
            quote!(#value, #error)
        }
    };
    let items = method.parameters.streams.types();
    let kind = match (items.sent, items.received) {
        (None, None) => return quote!(#farcall::Call<#types>),
        (None, Some(received)) => quote!(#farcall::client::Receives<#received>),
        (Some(sent), None) => quote!(#farcall::client::Sends<#sent>),
        (Some(sent), Some(received)) => quote!(#farcall::client::Exchanges<#sent, #received>),
    };
    quote!(#farcall::client::StreamCall<#kind, #types>)
}

/// Generates what makes a call a streaming one.
fn streaming(method: &Method) -> Option<TokenStream> {
    let items = method.parameters.streams.types();
    match (items.sent, items.received) {
        (None, None) => None,
        (None, Some(received)) => Some(quote!(.receive::<#received>())),
        (Some(sent), None) => Some(quote!(.send_items::<#sent>())),
        (Some(sent), Some(received)) => Some(quote!(.exchange::<#sent, #received>())),
    }
}

/// Generates the call with the arguments.
fn call(service: &Service, method: &Method) -> TokenStream {
    let farcall = &service.farcall;
    let name = full_name(service, method);
    let arguments_ident = arguments_ident(service, method);
    let fields = method.parameters.sent.iter().map(borrowed::to_field);
    // Each type keeps its location, so that missing traits are reported there.
    let make = match &method.output {
        Output::Plain(ty) if byte_types::is_bytes(ty) => quote!(call_bytes::<#ty>),
        Output::Plain(ty) => quote!(call::<#ty>),
        Output::Fallible { value, error, .. } => {
            let error = error_type(service, error);
            if byte_types::is_bytes(value) {
                quote!(call_fallible_bytes::<#value, #error>)
            } else {
                quote!(call_fallible::<#value, #error>)
            }
        }
    };
    let idempotent = method.idempotent.map(|idempotence| match idempotence {
        Idempotence::Anywhere => quote!(.idempotent()),
        Idempotence::SameServer => quote!(.idempotent_at_same_server()),
    });
    let once = method.once.map(|scope| match scope {
        Idempotence::Anywhere => quote!(.once_anywhere()),
        Idempotence::SameServer => quote!(.once()),
    });
    let streaming = streaming(method);
    let checked = checked::of_method(method);
    if checked.is_empty() {
        return quote! {
            self.channel.#make(#name, &#arguments_ident { #(#fields),* }) #streaming #idempotent #once
        };
    }
    // None of them is a reference here.
    let fields: Vec<_> = method.parameters.sent.iter().map(|Parameter { ident, .. }| ident).collect();
    let (bounds, field_types) = (checked::bounds(service, &checked), checked::field_types(method));
    let types = checked.iter().map(|checked| &checked.ty);
    let (ident, channel) = (checked::function_ident(method), local("channel"));
    let returns = returns(service, method);
    quote! {{
        #[inline]
        fn #ident<#(#bounds),*>(#channel: &#farcall::Channel, #(#fields: #field_types),*) -> #returns {
            #channel.#make(#name, &#arguments_ident { #(#fields),* }) #streaming
        }
        #ident::<#(#types),*>(&self.channel, #(#fields),*) #idempotent #once
    }}
}
