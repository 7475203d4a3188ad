//! The registry's server: the store of instances, and the HTTP interface to it.
//!
//! [`Registry`] is a running registry; [`Registry::router`] is its HTTP interface, for `axum::serve` or another
//! server. Sockets, TLS and settings files are left to the program `registry-server`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use farcall_registry::server::{Registry, RegistryOptions};
//!
//! let registry = Registry::open(RegistryOptions::default()).await?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let router = registry.router(&[listener.local_addr()?]);
//! # let stopped = async {};
//! # async fn on_signal() {}
//!
//! // Expires silent instances and writes the snapshot while it is polled.
//! let run = registry.run(on_signal());
//! let serve = async {
//!     axum::serve(listener, router).with_graceful_shutdown(stopped).await
//! };
//! let (served, ()) = tokio::join!(serve, async {
//!     run.await;
//!     registry.close().await; // ends the watches, so that the server can stop
//! });
//! served?;
//! # Ok(())
//! # }
//! ```

mod error;
#[cfg(feature = "client")]
pub(crate) mod fuzzing;
mod http;
mod metrics;
mod options;
mod page;
mod readers;
mod registry;
mod shared_store;
mod snapshot_file;
mod snapshot_lines;
mod snapshot_link;
mod snapshot_lock;
mod snapshots;
mod state;
mod store;
mod tokens;
mod wake_batches;
mod watchers;

pub use self::error::{OpenError, OptionsError, RegisterError};
pub use self::options::RegistryOptions;
pub use self::registry::Registry;
pub use self::tokens::Tokens;
