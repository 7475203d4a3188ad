//! The farcall registry: which instances of a service are up.
//!
//! [`wire`] is what its two sides say to each other.

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;
pub mod wire;
