//! The farcall server: it accepts connections, calls handlers, and answers.
//!
//! Services come from traits (`#[farcall::service]`, in the crate `farcall`) or from closures:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use farcall_server::Server;
//!
//! #[derive(serde::Deserialize)]
//! struct Square {
//!     n: i64,
//! }
//!
//! let server = Server::builder()
//!     .method("Arith.square", |square: Square| async move { square.n * square.n })
//!     .listen("tcp@127.0.0.1:0")
//!     .bind()
//!     .await?;
//! println!("listening on {}", server.addresses().next().expect("it has one"));
//!
//! let handle = server.handle();
//! handle.stop(); // a real one would wait for a signal
//! server.serve().await;
//! # Ok(())
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod auth;
mod call;
mod connection;
mod error;
mod limits;
mod memory_budget;
mod observe;
mod once;
mod overload;
mod peer_usage;
mod server;
mod service;
mod stream;
mod yield_turn;

pub use self::auth::authenticate::{Authenticate, Authenticating, Credential};
pub use self::auth::authorize::{Authorize, AuthorizeLayer};
pub use self::auth::tokens::{TokenErrorKind, Tokens, TokensError};
pub use self::call::invocation::Invocation;
pub use self::call::invoked_stream::{InputError, InvokedInput, InvokedStream};
pub use self::call::local_peer::InvokedEvent;
#[doc(hidden)]
pub use self::call::offload_runtime::{OffloadRuntime, ThreadTime, TokioOffload};
pub use self::error::{BuildError, ServeError};
pub use self::limits::Limits;
pub use self::observe::load::LoadReporting;
pub use self::observe::metrics::MethodMetrics;
pub use self::observe::overview::{
    CallOverview, ConnectionOverview, EndedCall, HistoryBucket, LimitOverview, MethodOverview, Overview,
    RegistrationOverview, WindowStats,
};
pub use self::observe::streams::{StreamMetrics, StreamOverview};
pub use self::once::memory_store::MemoryDedupStore;
pub use self::once::once_call::OnceCall;
pub use self::once::options::OnceOptions;
pub use self::once::store::{Claim, DedupStore};
pub use self::overload::control::{OverloadOverview, RefusedCalls};
pub use self::server::Server;
pub use self::server::builder::ServerBuilder;
pub use self::server::handle::ServerHandle;
pub use self::server::registrations::Registration;
pub use self::server::shutdown_signal::{ShutdownSignal, shutdown_signal};
#[doc(hidden)]
pub use self::service::handler::ReceivedRequest;
pub use self::service::handler::{Handler, Request, Response, ResponseFuture};
pub use self::service::interceptor::{Intercepted, Interceptor, Next, interceptor};
pub use self::service::layer::{HandlerService, from_tower};
pub use self::service::stream_method::{
    AsyncExchangeMethod, AsyncStreamMethod, StreamHalves, from_stream_fn, item_source,
};
pub use self::service::{AsyncMethod, Service, from_borrowing_fn, from_fn};
pub use self::stream::error::{ReceiveError, SendError};
pub use self::stream::receiver::Receiver;
pub use self::stream::sender::Sender;
