//! TLS around a stream, by rustls with ring: who is trusted, and who this side is.
//!
//! [`Alpn`] names the protocol inside. There is no fall-back to plain text anywhere, and no
//! way to trust everybody.

mod client;
mod error;
mod names;
mod server;
mod stream;

use std::time::Duration;

pub use farcall_tls::{PemError, TlsError};

pub use self::client::{TlsClient, TlsClientBuilder};
pub use self::error::{TlsCause, TlsErrorKind};
pub use self::server::{TlsServer, TlsServerBuilder};

/// The time between two checks of the files, by default.
const RELOAD_EVERY: Duration = Duration::from_secs(2);

/// The protocol inside of TLS, which the two sides agree on in its handshake (ALPN,
/// [RFC 7301](https://www.rfc-editor.org/rfc/rfc7301)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alpn {
    /// `farcall/1`, and nothing else: a peer that does not agree on it is refused.
    Farcall,
    /// `http/1.1`, or nothing: old HTTP clients do not name their protocol.
    Http1,
    /// `farcall/1`, `http/1.1` or nothing, for a listener that distinguishes them.
    FarcallOrHttp1,
}

impl Alpn {
    const ALL: [Alpn; 3] = [Alpn::Farcall, Alpn::Http1, Alpn::FarcallOrHttp1];

    fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Alpn::Farcall => &[b"farcall/1"],
            Alpn::Http1 => &[b"http/1.1"],
            Alpn::FarcallOrHttp1 => &[b"farcall/1", b"http/1.1"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }

    /// That what was agreed on is enough.
    fn check(self, agreed: Option<&[u8]>) -> Result<(), TlsErrorKind> {
        match (self, agreed) {
            (Alpn::Farcall, Some(b"farcall/1")) | (Alpn::Http1 | Alpn::FarcallOrHttp1, _) => Ok(()),
            (Alpn::Farcall, _) => Err(TlsErrorKind::NotFarcall),
        }
    }
}
