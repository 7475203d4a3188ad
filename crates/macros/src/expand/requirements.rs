//! The requirements on items, and on results of a side that is not compiled in. A feature that another crate enables must
//! not break a service that compiled without it.

use proc_macro2::TokenStream;
use quote::quote;

use crate::method::Method;
use crate::output::Output;
use crate::service::Service;

/// Generates checks that have no code at run time. Each type keeps its location, so that missing traits are
/// reported there.
pub(super) fn expand(service: &Service) -> TokenStream {
    let farcall = &service.farcall;
    let streaming = service.methods.iter().filter(|method| !method.parameters.streams.is_empty());
    let of_both = streaming.map(|method| {
        let conditions = method.conditions();
        let items = method.parameters.streams.iter().map(|half| &half.item);
        quote!(#(#conditions)* const _: () = { #(#farcall::__private::item::<#items>();)* };)
    });
    let of_server = service.methods.iter().map(|method| {
        let checks =
            checks(method, &quote!(#farcall::__private::sent), &quote!(#farcall::__private::sent_error));
        let items = items(service, method, true);
        quote!(#checks #items)
    });
    let of_client = service.methods.iter().map(|method| {
        let checks = checks(
            method,
            &quote!(#farcall::__private::received),
            &quote!(#farcall::__private::received_error),
        );
        let items = items(service, method, false);
        quote!(#checks #items)
    });
    quote! {
        #(#of_both)*
        #farcall::__private::unless_server! { const _: () = { #(#of_server)* }; }
        #farcall::__private::unless_client! { const _: () = { #(#of_client)* }; }
    }
}

fn checks(method: &Method, check_value: &TokenStream, check_error: &TokenStream) -> TokenStream {
    let conditions = method.conditions();
    let checks = match &method.output {
        Output::Plain(ty) => quote!(#check_value::<#ty>();),
        Output::Fallible { value, error, .. } => {
            quote!(#check_value::<#value>(); #check_error::<#error>();)
        }
    };
    quote!(#(#conditions)* { #checks })
}

/// Generates the checks of the items that a side sends and receives.
fn items(service: &Service, method: &Method, is_server: bool) -> TokenStream {
    let farcall = &service.farcall;
    let conditions = method.conditions();
    let checks = method.parameters.streams.iter().map(|half| {
        let item = &half.item;
        if half.sends == is_server {
            quote!(#farcall::__private::sent_item::<#item>();)
        } else {
            quote!(#farcall::__private::received_item::<#item>();)
        }
    });
    quote!(#(#conditions)* { #(#checks)* })
}
