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
/// Parsers of private modules, for the project's fuzz targets; they change without notice.
#[cfg(all(feature = "client", feature = "server"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "server")]
pub mod server;
pub mod wire;
