//! farcall: write a trait, serve it from one process, call it from another.
//!
//! ```
//! use farcall::{Channel, Server};
//! use serde::{Deserialize, Serialize};
//!
//! /// Integer arithmetic.
//! #[farcall::service]
//! pub trait Arith {
//!     /// Multiplies two numbers.
//!     #[rpc(idempotent)]
//!     async fn multiply(&self, a: i64, b: i64) -> i64;
//!     /// Divides; fails on zero.
//!     async fn divide(&self, a: i64, b: i64) -> Result<i64, DivideError>;
//! }
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
//! #[error("division by zero")]
//! pub struct DivideError;
//!
//! struct Calculator;
//!
//! impl Arith for Calculator {
//!     async fn multiply(&self, a: i64, b: i64) -> i64 {
//!         a * b
//!     }
//!     async fn divide(&self, a: i64, b: i64) -> Result<i64, DivideError> {
//!         a.checked_div(b).ok_or(DivideError)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder().service(Calculator.into_service()).listen("tcp@127.0.0.1:0").bind().await?;
//! let address = server.addresses().next().expect("it listens on one").clone();
//! tokio::spawn(server.serve());
//!
//! let arith = ArithClient::new(Channel::to(address)?);
//! assert_eq!(arith.multiply(6, 7).await?, 42);
//! let error = arith.divide(6, 0).await.unwrap_err();
//! assert_eq!(error.application(), Some(&DivideError));
//! # Ok(())
//! # }
//! ```
//!
//! A [`Call`] is a builder: `arith.multiply(6, 7).timeout(limit).await`. Dropping its future cancels
//! the call, to the handler. [`macro@service`] documents what it generates from a trait.
//!
//! # Streams
//!
//! A method with a [`Sender`] or a [`Receiver`] among its parameters streams: it sends items to its caller, takes items from
//! it, or both, and still returns a value in the end. The caller gets an [`ItemStream`], an [`ItemSink`], or a
//! [`client::Exchange`] of both. What the other side does not take is not sent, beyond a window; dropping either half
//! cancels the call; and a stream that was cut ends with an error, never as if it were complete.
//!
//! ```
//! use farcall::{Channel, Receiver, Sender, Server, Status};
//!
//! #[farcall::service]
//! trait Feed {
//!     /// Sends the numbers of a range, and returns how many there were.
//!     async fn count(&self, from: u64, to: u64, out: Sender<u64>) -> Result<u64, Status>;
//!     /// Adds the numbers that it gets.
//!     async fn sum(&self, numbers: Receiver<u64>) -> Result<u64, Status>;
//! }
//!
//! struct Numbers;
//!
//! impl Feed for Numbers {
//!     async fn count(&self, from: u64, to: u64, mut out: Sender<u64>) -> Result<u64, Status> {
//!         for number in from..to {
//!             out.send(number).await?;
//!         }
//!         Ok(to - from)
//!     }
//!     async fn sum(&self, mut numbers: Receiver<u64>) -> Result<u64, Status> {
//!         let mut sum = 0;
//!         while let Some(number) = numbers.recv().await {
//!             sum += number?;
//!         }
//!         Ok(sum)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder().service(Numbers.into_service()).listen("tcp@127.0.0.1:0").bind().await?;
//! let address = server.addresses().next().expect("it listens on one").clone();
//! tokio::spawn(server.serve());
//! let feed = FeedClient::new(Channel::to(address)?);
//!
//! let mut numbers = feed.count(1, 5).await?;
//! let mut sum = feed.sum().await?;
//! while let Some(number) = numbers.next().await {
//!     sum.send(number?).await?;
//! }
//! assert_eq!((numbers.finish().await?, sum.finish().await?), (4, 10));
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! A dozen names are at the root, and in the [`prelude`]. Everything else is in the module that is
//! named after its side or its layer: [`client`] and [`server`]; [`context`], what a handler sees of
//! its call; [`discovery`], endpoints, balancers and registrars; [`transport`], addresses, dialing
//! and TLS; [`protocol`], codecs, codes and limits. Each is the crate of the same name, whole.
//!
//! # Features
//!
//! On by default: `server` and `client`, the two sides; `macros`, which is [`macro@service`];
//! `msgpack` and `json`, the codecs, of which one must be on; `lz4`, which compresses bodies if both
//! sides have it; `tls`, which encrypts.
//!
//! Off by default: `registry`, `etcd` and `consul`, each with a registrar for servers and a discovery for
//! clients, because they bring an HTTP client along, as `zookeeper` brings a client of ZooKeeper; what is in [`discovery`] needs
//! none of them. `kubernetes` finds servers by EndpointSlices, and `dns-srv` by SRV records. `http`
//! dials over HTTP and WebSocket and through proxies; `http-server` serves both, with pages for
//! health and metrics. `opentelemetry` puts calls into OpenTelemetry's traces.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
pub use farcall_client::{Call, CallError, Channel, ItemSink, ItemStream, RpcError};
pub use farcall_context::{Context, Inherited};
#[cfg(feature = "macros")]
pub use farcall_macros::service;
pub use farcall_protocol::{Bytes, Code, MethodError, Status, as_bytes, as_int128};
#[cfg(feature = "server")]
pub use farcall_server::{Receiver, Sender, Server};
pub use farcall_transport::Address;

#[cfg(not(feature = "server"))]
pub use self::absent_server::{Receiver, Sender};
#[cfg(not(feature = "server"))]
mod absent_server;

/// The client: channels, calls, retries, outlier detection and their errors.
#[cfg(feature = "client")]
pub mod client {
    pub use farcall_client::*;
}

/// The server: services, handlers, limits, authentication, middleware and observation.
#[cfg(feature = "server")]
pub mod server {
    pub use farcall_server::*;
}

/// The types of methods: schema documents, what breaks between two of them, and clients made of them.
#[cfg(feature = "server")]
pub mod schema {
    pub use farcall_schema::*;
}

/// The context of a call: what a handler sees of it, and what nested calls inherit.
pub mod context {
    pub use farcall_context::*;
}

/// Endpoints: where they are found, how one is chosen, and how a server registers.
pub mod discovery {
    pub use farcall_discovery::*;
}

/// The byte streams below: addresses, dialing, listening, TLS, proxies, resolvers.
pub mod transport {
    pub use farcall_transport::*;
}

/// The wire protocol: codecs, codes, limits, frames and sessions.
pub mod protocol {
    pub use farcall_protocol::*;
}

/// Calls over HTTP and WebSocket, the gateway, health, metrics and the debug page.
#[cfg(feature = "http-server")]
pub mod http {
    pub use farcall_http::*;
}

/// The registry's client: a registrar for servers and a discovery for clients, over HTTP.
#[cfg(feature = "registry")]
pub mod registry {
    pub use farcall_registry::client::*;
}

/// A registrar for servers and a discovery for clients, over etcd.
#[cfg(feature = "etcd")]
pub mod etcd {
    pub use farcall_etcd::*;
}

/// A registrar for servers and a discovery for clients, over Consul.
#[cfg(feature = "consul")]
pub mod consul {
    pub use farcall_consul::*;
}

/// A discovery for clients by the EndpointSlices of Kubernetes.
#[cfg(feature = "kubernetes")]
pub mod kubernetes {
    pub use farcall_kubernetes::*;
}

/// A registrar for servers and a discovery for clients, over ZooKeeper.
#[cfg(feature = "zookeeper")]
pub mod zookeeper {
    pub use farcall_zookeeper::*;
}

/// Calls in OpenTelemetry's traces.
#[cfg(feature = "opentelemetry")]
pub mod opentelemetry {
    pub use farcall_opentelemetry::*;
}

/// The names that most files need: `use farcall::prelude::*`.
///
/// ```
/// use farcall::prelude::*;
///
/// #[service]
/// trait Greeter {
///     async fn greet(&self, name: String) -> String;
/// }
///
/// async fn greet(channel: Channel) -> Result<String, RpcError> {
///     Ok(GreeterClient::new(channel).greet("Ada".to_owned()).await?)
/// }
/// ```
pub mod prelude {
    #[cfg(feature = "server")]
    pub use crate::Server;
    #[cfg(feature = "macros")]
    pub use crate::service;
    pub use crate::{Address, Bytes, Code, Context, MethodError, Status};
    #[cfg(feature = "client")]
    pub use crate::{Call, CallError, Channel, RpcError};
}

#[cfg(all(feature = "server", feature = "client"))]
pub mod testing;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

/// The code in README and the guide, run with the tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/GUIDE.md")]
    struct Guide;

    #[doc = include_str!("../../../docs/SECURITY.md")]
    struct Security;

    #[cfg(feature = "server")]
    #[doc = include_str!("../../../docs/OVERLOAD.md")]
    struct Overload;

    #[cfg(all(feature = "server", feature = "client"))]
    #[doc = include_str!("../../../docs/BALANCING.md")]
    struct Balancing;

    #[cfg(all(feature = "server", feature = "client"))]
    #[doc = include_str!("../../../docs/STREAMS.md")]
    struct Streams;

    #[cfg(feature = "http-server")]
    #[doc = include_str!("../../../docs/HTTP.md")]
    struct Http;

    #[cfg(all(feature = "http-server", feature = "json"))]
    #[doc = include_str!("../../../docs/CALLING.md")]
    struct Calling;

    #[cfg(all(feature = "http-server", feature = "client"))]
    #[doc = include_str!("../../../docs/OBSERVING.md")]
    struct Observing;
}
