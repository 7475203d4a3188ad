//! A farcall cluster in one thread, in virtual time, from a seed: for tests under faults of the network.
//!
//! Servers, clients and registries are those of production. What is simulated is the network between them, with
//! latencies, bandwidth, cuts and resets; time, which passes as fast as the machine computes; and chance, so that a run
//! that fails can be repeated from its seed.
//!
//! ```
//! use std::time::Duration;
//!
//! use farcall_sim::for_each_seed;
//! # #[farcall::service]
//! # trait Arith { #[rpc(idempotent)] async fn double(&self, n: i64) -> i64; }
//! # struct Doubling;
//! # impl Arith for Doubling { async fn double(&self, n: i64) -> i64 { 2 * n } }
//!
//! // A server is cut off, and the other one answers.
//! for_each_seed(10, async |cluster| {
//!     let describe = |_: &_| farcall::Server::builder().service(Doubling.into_service());
//!     let servers = ["a", "b"].map(|name| cluster.server(name, describe).unwrap());
//!     let client = cluster.node("client").channel_builder();
//!     let client = servers.iter().fold(client, |client, server| client.to(server.node().address()));
//!     let arith = ArithClient::new(client.build().unwrap());
//!
//!     cluster.partition(&["client"], &["a"]);
//!     for n in 0..20 {
//!         assert_eq!(arith.double(n).timeout(Duration::from_secs(60)).await.unwrap(), 2 * n);
//!     }
//! });
//! ```
//!
//! [`soak`] is the project's own scenario: all faults at once, and what must hold whatever they do.

mod cluster;
mod network;
mod node;
mod offload;
mod registry;
mod server;
mod sim;
pub mod soak;
mod trace;

/// The code of the page on testing, run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/TESTING.md")]
struct Testing;

pub use self::cluster::Cluster;
pub use self::network::Link;
pub use self::node::Node;
pub use self::registry::SimRegistry;
pub use self::server::SimServer;
pub use self::sim::{Sim, for_each_seed};
