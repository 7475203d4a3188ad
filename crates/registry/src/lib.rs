//! The farcall registry: records which instances of a service are up, and serves their list to clients.
//!
//! - `server` (feature `server`): the registry itself, its store and HTTP interface.
//! - `client` (feature `client`): registers servers in a registry, and finds servers there.
//! - [`wire`]: the JSON that the two exchange.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "client", feature = "server"))]
mod excerpt;
#[cfg(feature = "server")]
pub mod server;
pub mod wire;
