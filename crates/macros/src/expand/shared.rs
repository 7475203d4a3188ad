//! `Arc<S>` as an implementation, which forwards each method to the shared service.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::names::local;
use crate::method::Method;
use crate::service::Service;

/// Generates `impl<S: Arith> Arith for Arc<S>`.
pub(super) fn expand(service: &Service) -> TokenStream {
    let trait_ident = &service.item.ident;
    let shared = local("__SharedService");
    let methods = service.methods.iter().map(|method| pass_on(service, method));
    quote! {
        #[allow(dead_code, deprecated, unused_variables, clippy::many_single_char_names, clippy::too_many_arguments, clippy::used_underscore_binding, clippy::wrong_self_convention)]
        impl<#shared: #trait_ident> #trait_ident for ::std::sync::Arc<#shared> {
            #(#methods)*
        }
    }
}

fn pass_on(service: &Service, method: &Method) -> TokenStream {
    let (trait_ident, ident) = (&service.item.ident, method.ident());
    let conditions = method.conditions();
    let (shared, context) = (local("__SharedService"), local("context"));
    let (take_context, pass_context) = match &method.parameters.context {
        Some(ty) => (Some(quote!(#context: #ty,)), Some(quote!(#context,))),
        None => (None, None),
    };
    let parameters = method.parameters.all().map(|parameter| {
        let (ident, ty) = (&parameter.ident, &parameter.ty);
        quote!(#ident: #ty)
    });
    let arguments = method.parameters.all().map(|parameter| &parameter.ident);
    let output = method.output.written();
    // The location of the method, so that a missing trait is reported once, there.
    quote_spanned! {ident.span()=>
        #(#conditions)*
        fn #ident(&self, #take_context #(#parameters),*)
            -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
        {
            <#shared as #trait_ident>::#ident(&**self, #pass_context #(#arguments),*)
        }
    }
}
