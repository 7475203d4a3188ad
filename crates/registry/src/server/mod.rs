//! The registry itself: one process's store of instances, and the HTTP interface to it.
//!
//! [`Registry`] is the store with what it needs to run; [`Registry::router`] is its interface, for
//! `axum::serve` or a server of one's own.
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
//! // Expires what is silent, and writes the snapshot, for as long as it is polled.
//! let run = registry.run(on_signal());
//! let serve = async {
//!     axum::serve(listener, router).with_graceful_shutdown(stopped).await
//! };
//! let (served, ()) = tokio::join!(serve, async {
//!     run.await;
//!     registry.close().await; // ends the watchers, so that the server can end
//! });
//! served?;
//! # Ok(())
//! # }
//! ```

mod http;
mod metrics;
mod options;
mod page;
mod registry;
mod snapshot_file;
mod snapshots;
mod store;
mod tokens;
mod turns;
mod watchers;

pub use self::options::RegistryOptions;
pub use self::registry::{OpenError, RegisterError, Registry};
pub use self::tokens::Tokens;
