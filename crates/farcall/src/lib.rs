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
//! A [`Call`] is a builder that is also a future: `arith.multiply(6, 7).timeout(limit).await`.
//! Dropping it cancels it, to the handler. What [`macro@service`] makes of a trait is told there.
//!
//! # Features
//!
//! On by default: `server` and `client`, the two sides; `macros`, which is [`macro@service`];
//! `msgpack` and `json`, the codecs, of which one must be on; `lz4`, which compresses bodies where
//! both sides have it; `tls`, which encrypts.
//!
//! Off by default: `registry` and `etcd`, each with a registrar for servers and a discovery for
//! clients, as they bring an HTTP client along. What is in [`discovery`] needs neither. `http` dials
//! over HTTP and WebSocket and through proxies; `http-server` serves both, with pages for health and
//! metrics. `opentelemetry` puts calls into OpenTelemetry's traces.
//!
//! This crate only gathers the others, and chooses among them by features.

#[cfg(feature = "client")]
pub use farcall_client::{
    Broadcast, BroadcastError, BuildError as ChannelError, Call, CallError, Channel, ChannelBuilder,
    ChannelOverview, Connection, ConnectionOptions, EndpointFailure, EndpointOverview, EndpointReply,
    EndpointState, EndpointStatus, Health, OutlierDetection, Phase, RetryBudget, RetryPolicy, RpcError,
    StartedCall,
};
pub use farcall_context::{ConnectionInfo, Context, Identity, Inherited, WithInherited, trace};
pub use farcall_discovery::{
    Balancer, ConsistentHash, Discovery, DnsDiscovery, Endpoint, FileDiscovery, Instance, LeastLoaded,
    MemoryRegistry, PeakEwma, Random, Registrar, RoundRobin, StaticList, WeightedRoundRobin, ZoneFirst,
};
#[cfg(feature = "etcd")]
pub use farcall_etcd::{EtcdDiscovery, EtcdOptions, EtcdOptionsError, EtcdRegistrar};
#[cfg(feature = "macros")]
pub use farcall_macros::service;
#[cfg(feature = "msgpack")]
pub use farcall_protocol::BodyCodec;
pub use farcall_protocol::{
    Bytes, Code, Codec, Compression, Execution, KeepAlive, MaxFrameBytes, MaxInFlight, Metadata, Status,
    describe,
};
#[cfg(feature = "registry")]
pub use farcall_registry::client::{HttpDiscovery, HttpRegistrar};
#[cfg(feature = "server")]
pub use farcall_server::{
    AsyncMethod, Authenticate, Authorize, AuthorizeLayer, BuildError, CallFuture, CallLayer, CallService,
    Credential, Handler, LayeredCall, LayeredHandler, Limits, Registration, Request, Response,
    ResponseFuture, ServeError, Server, ServerBuilder, ServerHandle, Service, TokenErrorKind, Tokens,
    TokensError,
};
pub use farcall_transport::{
    Address, AddressError, Dialer, HumanDuration, PeerAddress, PeerCertificate, Scheme, Stream, SubjectName,
    TlsInfo,
};
#[cfg(feature = "tls")]
pub use farcall_transport::{Alpn, TlsClient, TlsError, TlsErrorKind, TlsServer};

/// The discovery crate, whole: endpoints and where they are found, choosing among them, registering.
pub mod discovery {
    pub use farcall_discovery::*;
}

/// The HTTP crate, whole: calls over HTTP and WebSocket, health, metrics.
#[cfg(feature = "http-server")]
pub mod http {
    pub use farcall_http::*;
}

/// The OpenTelemetry crate, whole: calls in its traces.
#[cfg(feature = "opentelemetry")]
pub mod opentelemetry {
    pub use farcall_opentelemetry::*;
}

/// The transport crate, whole: dialing and listening, their errors, resolvers.
pub mod transport {
    pub use farcall_transport::*;
}

/// The protocol crate, whole.
pub mod protocol {
    pub use farcall_protocol::*;
}

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

/// The code in README and the guide is run with the tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/GUIDE.md")]
    struct Guide;

    #[doc = include_str!("../../../docs/SECURITY.md")]
    struct Security;
}
