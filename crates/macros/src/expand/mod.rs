//! Code generation for a service: its trait, the arguments of its methods, the server side and the client
//! side.

use proc_macro2::TokenStream;
use quote::quote;

use crate::service::Service;

mod arguments;
mod borrowed;
mod checked;
mod client;
mod interface;
mod names;
mod requirements;
mod server;
mod shared;
mod stub;

/// Generates all items of a service.
pub(crate) fn service(service: &Service) -> TokenStream {
    let interface = interface::expand(service);
    let arguments = service.methods.iter().map(|method| arguments::expand(service, method));
    let requirements = requirements::expand(service);
    let shared = shared::expand(service);
    let client = client::expand(service);
    let stub = stub::expand(service);
    quote! {
        #interface
        #(#arguments)*
        #requirements
        #shared
        #client
        #stub
    }
}
