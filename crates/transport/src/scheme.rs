//! The names before the `@` of an address, and which of them this crate can speak.
//!
//! What follows the `@` is the business of [`crate::Address`].

use std::fmt;

/// The part of an address before the `@`, which names the way to reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scheme {
    /// Plain TCP: `tcp@host:port`.
    Tcp,
    /// A Unix domain socket: `unix@/path`.
    Unix,
    /// TLS with ALPN `farcall/1`: `tls@host:port`.
    Tls,
    /// An HTTP/1.1 upgrade, which passes reverse proxies: `http@host:port`.
    Http,
    /// An HTTP `CONNECT`, as Go's net/rpc opens it: `connect@host:port`.
    Connect,
    /// [`Scheme::Http`] inside TLS: `https@host:port`.
    Https,
    /// WebSocket: `ws@host:port`.
    Ws,
    /// [`Scheme::Ws`] inside TLS: `wss@host:port`.
    Wss,
}

impl Scheme {
    /// Every scheme that an address can name, in the order of the specification.
    pub const ALL: [Scheme; 8] = [
        Scheme::Tcp,
        Scheme::Unix,
        Scheme::Tls,
        Scheme::Http,
        Scheme::Connect,
        Scheme::Https,
        Scheme::Ws,
        Scheme::Wss,
    ];

    /// The scheme as it is written in an address, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Tcp => "tcp",
            Scheme::Unix => "unix",
            Scheme::Tls => "tls",
            Scheme::Http => "http",
            Scheme::Connect => "connect",
            Scheme::Https => "https",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        }
    }

    /// Returns `true` if the stream is inside TLS: `tls`, `https` and `wss`.
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Scheme::Tls | Scheme::Https | Scheme::Wss)
    }

    /// The scheme of this name. The case matters, as it does on the wire.
    pub(crate) fn named(name: &str) -> Option<Scheme> {
        Scheme::ALL.into_iter().find(|scheme| scheme.as_str() == name)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The known schemes in one line, for the text of an error.
pub(crate) struct KnownSchemes;

impl fmt::Display for KnownSchemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scheme) in Scheme::ALL.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{scheme}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_found_by_its_name() {
        for scheme in Scheme::ALL {
            assert_eq!(Scheme::named(scheme.as_str()), Some(scheme));
        }
        assert_eq!(Scheme::named("TCP"), None);
    }

    #[test]
    fn the_known_schemes_are_listed_in_one_line() {
        assert_eq!(KnownSchemes.to_string(), "tcp, unix, tls, http, connect, https, ws, wss");
    }

    #[test]
    fn schemes_over_tls_are_encrypted() {
        let encrypted = Scheme::ALL.into_iter().filter(|scheme| scheme.is_encrypted());
        assert!(encrypted.eq([Scheme::Tls, Scheme::Https, Scheme::Wss]));
    }
}
