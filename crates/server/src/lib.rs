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

mod advertise;
mod allow;
mod aside;
mod authenticate;
mod budget;
mod builder;
mod connection;
mod core;
mod error;
mod handler;
mod handshake;
mod history;
mod invoke;
mod layer;
mod limits;
mod look;
mod method;
mod metrics;
mod overview;
mod places;
mod recent;
mod registrations;
mod router;
mod server;
mod service;
mod span;
mod stats;
mod tokens;

pub use self::allow::{Authorize, AuthorizeLayer};
pub use self::authenticate::{Authenticate, Authenticating, Credential};
pub use self::builder::ServerBuilder;
pub use self::error::{BuildError, ServeError};
pub use self::handler::{Handler, Request, Response, ResponseFuture};
pub use self::invoke::Invocation;
pub use self::layer::{CallFuture, CallLayer, CallService, LayeredCall, LayeredHandler};
pub use self::limits::Limits;
pub use self::metrics::MethodMetrics;
pub use self::overview::{
    CallOverview, ConnectionOverview, EndedCall, HistoryBucket, LimitOverview, MethodOverview, Overview,
    RegistrationOverview, WindowStats,
};
pub use self::registrations::Registration;
pub use self::server::{Server, ServerHandle};
pub use self::service::{AsyncMethod, Service, from_fn};
pub use self::tokens::{TokenErrorKind, Tokens, TokensError};
