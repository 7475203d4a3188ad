//! The trait as it is implemented: the futures of its methods are `Send`, and it converts to a service.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Block, TraitItemFn, parse_quote, parse_quote_spanned};

use super::server;
use crate::method::Method;
use crate::service::Service;

/// Generates the trait.
pub(super) fn expand(service: &Service) -> TokenStream {
    let mut item = service.item.clone();
    // A process that is only a client or only a server uses half of the items.
    item.attrs.push(parse_quote!(#[allow(dead_code)]));
    // Calls run concurrently, on any thread, and may outlive the caller of `serve`.
    item.colon_token.get_or_insert_default();
    item.supertraits.push(parse_quote!(::core::marker::Send));
    item.supertraits.push(parse_quote!(::core::marker::Sync));
    item.supertraits.push(parse_quote!(::core::marker::Sized));
    item.supertraits.push(parse_quote!('static));
    item.items = service.methods.iter().map(|method| method_of_trait(method).into()).collect();
    item.items.push(syn::TraitItem::Verbatim(server::expand(service)));
    item.into_token_stream()
}

/// Rewrites `async fn f(..) -> T` to `fn f(..) -> impl Future<Output = T> + Send`. The future of a trait's
/// `async fn` has no `Send` bound, so it could not be spawned.
fn method_of_trait(method: &Method) -> TraitItemFn {
    let mut item = method.item.clone();
    let span = item.sig.asyncness.take().map_or_else(|| item.sig.fn_token.span, |token| token.span);
    let output = method.output.written();
    let future = quote_spanned! {span=>
        impl ::core::future::Future<Output = #output> + ::core::marker::Send
    };
    item.sig.output = parse_quote_spanned!(span=> -> #future);
    if let Some(body) = item.default.take() {
        let body: Block = parse_quote_spanned!(body.span()=> { async move #body });
        item.default = Some(body);
        item.attrs.push(parse_quote!(#[allow(clippy::manual_async_fn)]));
    }
    item
}
