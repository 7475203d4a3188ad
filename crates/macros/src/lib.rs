//! `#[farcall::service]`: generates a service and its client from a trait.
//!
//! The macro first parses the trait and collects all mistakes (`service`, `method`, `parameters`, `output`),
//! then generates code (`expand`: the trait, the arguments, the server side, the client side). Items that
//! generated code needs are in the crate `farcall`, under `__private`, and so is the documentation of the
//! attribute with a runnable example.
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

mod attributes;
mod byte_types;
mod documentation;
mod errors;
mod expand;
mod known_types;
mod method;
mod names;
mod output;
mod parameter;
mod parameters;
mod rpc;
mod service;
mod settings;
mod streams;
mod type_rules;
mod type_text;

/// Generates a service and its client from a trait.
///
/// # The trait
///
/// Every method is an `async fn` with `&self`; its parameters and its result are types that serde can
/// serialize and deserialize. The trait is implemented as written; the futures of its methods must be `Send`.
///
/// - A parameter may be borrowed from the request: `&str`, `&[u8]`, `Cow<'_, str>`, `Cow<'_, [u8]>`, or a type of yours with
///   the lifetime `'_`. It is not allocated then, at most copied together with its request. The client takes the same types. Results are owned, and so are the
///   arguments of methods that stream.
/// - A first parameter `cx: &Context` receives the context of the call: deadline, metadata, peer. It is not
///   sent.
/// - A parameter of type `farcall::Sender<T>` sends items of type `T` to the caller, one of type `farcall::Receiver<T>` receives
///   them. A method may have one of each, behind the parameters that are sent. The method still returns its result, which
///   follows the items.
/// - Callers in other languages may omit a parameter of type `Option<..>`.
/// - A method that returns `Result<T, E>` can fail. The caller's error depends on `E`:
///   - A type that is `Serialize`, `Deserialize` and `Display` is the method's own error. The caller gets
///     it back typed, as `CallError::Application`.
///   - `Status` fails with one of farcall's codes. The caller gets an `RpcError` with that code.
///   - `MethodError<E>` can be either.
///
///   In a method that returns a `Status` or a `MethodError`, `?` on a nested call passes its failure on with
///   the same code.
///
///   Results of other types are sent unchanged.
///
/// # Generated items for a trait `Arith`
///
/// - The trait's method `into_service()`, with the feature `server`.
/// - `impl<S: Arith> Arith for Arc<S>`: `Arc::new(calculator).into_service()` works, so an implementation can
///   be in several servers and be used elsewhere.
/// - `ArithClient`, with the feature `client`: it has every method, returning a `Call`, and is made by
///   `ArithClient::connect(address)`, `ArithClient::new(..)` or from a `Channel`. A method that streams returns a
///   `StreamCall` without the halves among its parameters: awaited, it is an `ItemStream` if the method sends items, an
///   `ItemSink` if it receives them, and an `Exchange` if it does both.
/// - `ArithStub`, with the feature `client`: the methods of the client as a trait. Code that is generic over
///   it takes an `ArithClient`, or, in a test, a plain struct. A method that streams is ready with the `ItemStream`, the
///   `ItemSink` or the `Exchange`; a struct gets those from a client of a service in memory.
///
/// # Settings
///
/// | on the trait | |
/// | --- | --- |
/// | `#[farcall::service(name = "Math")]` | the name on the wire, which may contain dots, such as `shop.Math`; default: the trait's |
/// | `#[farcall::service(crate = "path")]` | the path of the crate `farcall`; default: `::farcall` |
///
/// | on a method | |
/// | --- | --- |
/// | `#[rpc(name = "who")]` | the name on the wire; default: the method's |
/// | `#[rpc(idempotent)]` | calling it twice has the effect of calling it once, **also at two servers**, so lost calls are repeated at any |
/// | `#[rpc(idempotent = "same_server")]` | calling it twice has that effect at one server only, which keeps the state for itself, so lost calls are repeated there and nowhere else |
/// | `#[rpc(once)]` | the server carries out all tries of a call once: a second try joins the first or gets its answer, so lost calls are repeated at that server |
/// | `#[rpc(once = "anywhere")]` | the same for servers that share a `DedupStore`, so lost calls are repeated at any |
/// | `#[rpc(one_way)]` | there is no response; the client's method is ready once the request is sent |
#[proc_macro_attribute]
pub fn service(settings: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = match service::Service::parse(settings.into(), item.into()) {
        Ok(service) => expand::service(&service),
        Err(error) => error.into_compile_error(),
    };
    expanded.into()
}
