//! Servers and channels in memory, for unit tests: no ports, no network, and ready for paused time.
//!
//! One service, one line:
//!
//! ```
//! # #[farcall::service]
//! # trait Arith { async fn multiply(&self, a: i64, b: i64) -> i64; }
//! struct Fake;
//!
//! impl Arith for Fake {
//!     async fn multiply(&self, _a: i64, _b: i64) -> i64 {
//!         42
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let arith = ArithClient::new(farcall::testing::channel(Fake.into_service()));
//! assert_eq!(arith.multiply(6, 7).await?, 42);
//! # Ok(())
//! # }
//! ```
//!
//! [`Network`] has several servers, found by address or through a
//! [`MemoryRegistry`](crate::discovery::MemoryRegistry); [`context`](context()) makes the [`Context`](crate::Context) of
//! a handler that is called directly. A call goes the whole way, through codecs, frames, limits, deadlines and
//! layers, and only the socket is left out. No timer runs in real time, so that tests may pause tokio's clock.

mod context;
mod network;

pub use self::context::{ContextBuilder, context};
pub use self::network::{Network, TestServer};
use crate::Channel;
use crate::server::{Server, Service};

/// Serves one service in memory, and returns a channel to it. The server stops with the channel's last clone.
///
/// # Panics
///
/// Outside of a tokio runtime.
#[must_use]
pub fn channel(service: Service) -> Channel {
    let network = Network::new();
    let server = network.serve("tcp@memory:1", Server::builder().service(service));
    let server = server.expect("one service without settings is no mistake");
    // The channel keeps the network, and the network its servers.
    network.keep(server);
    network.channel("tcp@memory:1")
}
