//! The handshake: the Option, which is the first frame in each direction, and the negotiation of its terms.

use std::time::Duration;

pub use self::client::ClientOffer;
pub use self::error::HandshakeError;
pub use self::negotiated::{Negotiated, StreamTerms};
pub use self::server::{ClientHello, ServerPolicy, StreamPolicy};

mod client;
mod error;
mod negotiated;
mod option;
mod server;

/// The number that every Option begins with. It detects peers that speak another protocol; it does not
/// authenticate.
pub const MAGIC_NUMBER: u32 = 0xCAFE_BABE;
/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;
/// The default budget for connecting and the handshake together.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The name of streams in `features`.
const STREAMS: &str = "streams";

#[cfg(all(test, feature = "msgpack", feature = "json"))]
mod tests;
