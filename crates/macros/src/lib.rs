//! `#[farcall::service]`: from a trait to a service and to its client.
//!
//! The macro reads (`service`, `method`, `parameters`, `output`: what was written, with every
//! mistake it holds), then writes (`expand`: the trait, the arguments, the server's side, the
//! client's side). What generated code needs beside the trait is in the crate `farcall`, under
//! `__private`; how the attribute is used is told there as well, with an example that runs.
//!
//! ```text
//! trait Arith { async fn multiply(&self, a: i64, b: i64) -> i64; }
//!   -> trait Arith { fn multiply(..) -> impl Future<Output = i64> + Send; fn into_service(self) -> Service; }
//!   -> struct __Arith_multiply { a: i64, b: i64 }     the arguments, on both sides
//!   -> impl<S: Arith> Arith for Arc<S>
//!   -> struct ArithClient; fn multiply(&self, a: i64, b: i64) -> Call<i64>
//!   -> trait ArithStub { fn multiply(..) -> impl Future<Output = Result<i64, CallError>> + Send; }
//! ```

use proc_macro::TokenStream;

mod documentation;
mod errors;
mod expand;
mod method;
mod names;
mod output;
mod parameters;
mod rpc;
mod service;
mod settings;
mod type_rules;
mod type_text;

/// Makes a service, and a client for it, of a trait.
///
/// # The trait
///
/// Every method is an `async fn` with `&self`; its parameters and its result are owned types that
/// serde can serialize and deserialize. For whoever implements the trait it stays what was
/// written, with futures that are `Send`.
///
/// - A first parameter `cx: &Context` is the call's own: deadline, metadata, peer. It is not sent.
/// - A parameter of type `Option<..>` may be left out by callers in other languages.
/// - A method that returns `Result<T, E>` can fail. What the caller gets depends on `E`:
///   - A type that is `Serialize`, `Deserialize` and `Display` is the method's own error. The caller gets
///     it back typed, as `CallError::Application`.
///   - `Status` fails with one of farcall's codes. The caller gets an `RpcError` with that code.
///   - `MethodError<E>` can be either.
///
///   In a method that returns a `Status` or a `MethodError`, `?` on a nested call passes its failure on with
///   the same code.
///
///   Other results are sent as they are.
///
/// # What is generated for a trait `Arith`
///
/// - The trait's method `into_service()`, with the feature `server`.
/// - `impl<S: Arith> Arith for Arc<S>`: `Arc::new(calculator).into_service()` works, so an implementation can
///   be in several servers and be used elsewhere.
/// - `ArithClient`, with the feature `client`: it has every method, returning a `Call`, and is made by
///   `ArithClient::connect(address)`, `ArithClient::new(..)` or from a `Channel`.
/// - `ArithStub`, with the feature `client`: the methods of the client as a trait. Code that is generic over
///   it takes an `ArithClient`, or, in a test, a plain struct.
///
/// # Settings
///
/// | on the trait | |
/// | --- | --- |
/// | `#[farcall::service(name = "Math")]` | the name on the wire, which may have dots, as `shop.Math`; default: the trait's |
/// | `#[farcall::service(crate = "path")]` | where the crate `farcall` is; default: `::farcall` |
///
/// | on a method | |
/// | --- | --- |
/// | `#[rpc(name = "who")]` | the name on the wire; default: the method's |
/// | `#[rpc(idempotent)]` | it may be called twice with the effect of once, so lost calls are retried |
/// | `#[rpc(one_way)]` | nobody waits for an answer; the client's method is ready once the request is sent |
#[proc_macro_attribute]
pub fn service(settings: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = match service::Service::parse(settings.into(), item.into()) {
        Ok(service) => expand::service(&service),
        Err(error) => error.into_compile_error(),
    };
    expanded.into()
}
