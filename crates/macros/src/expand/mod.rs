//! What is written for a service: its trait, the arguments of its methods, its server's side and
//! its client's.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;

use crate::method::Method;
use crate::service::Service;

mod arguments;
mod client;
mod interface;
mod requirements;
mod server;

/// Everything.
pub(crate) fn service(service: &Service) -> TokenStream {
    let interface = interface::expand(service);
    let arguments = service.methods.iter().map(|method| arguments::expand(service, method));
    let requirements = requirements::expand(service);
    let client = client::expand(service);
    quote! {
        #interface
        #(#arguments)*
        #requirements
        #client
    }
}

/// The name of the struct that holds a method's arguments. It shows in messages of serde's, so it
/// reads as the method does.
fn arguments_ident(service: &Service, method: &Method) -> Ident {
    format_ident!("__{}_{}", service.item.ident.unraw(), method.ident().unraw(), span = Span::call_site())
}

/// The name by which a method is called over the wire.
fn full_name(service: &Service, method: &Method) -> String {
    format!("{}.{}", service.name.text, method.name.text)
}

/// A variable of generated code, which nothing that the user writes can see or be taken for.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}
