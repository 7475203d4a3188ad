//! The errors of a dial, as texts for display and as variants for programs.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use farcall_protocol::text::untold_cause;

use crate::address::Address;
#[cfg(feature = "http")]
use crate::http_upgrade::HttpUpgradeError;
use crate::human::HumanDuration;
#[cfg(feature = "http")]
use crate::proxy::ProxyError;
use crate::scheme::Scheme;
#[cfg(feature = "tls")]
use crate::tls::{TlsError, TlsErrorKind};

/// A failed dial, with its address, its phase and its reason.
///
/// The text has all of it in one line, as in `connecting to tcp@10.0.0.3:7001: no answer within
/// 10 s`. The [`reason`](DialError::reason) alone leaves out the address and the [`hint`](DialError::hint).
#[derive(Debug)]
pub struct DialError {
    address: Address,
    reason: DialErrorKind,
}

impl DialError {
    pub(crate) fn new(address: &Address, reason: DialErrorKind) -> DialError {
        DialError { address: address.clone(), reason }
    }

    /// The address that was dialed.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the phase in which the dial failed.
    pub fn phase(&self) -> DialPhase {
        self.reason.phase()
    }

    /// Returns the reason. Its text does not name the address.
    pub fn reason(&self) -> &DialErrorKind {
        &self.reason
    }

    /// Returns what to try instead, if another scheme is likely to be right: "try `tcp@`".
    pub fn hint(&self) -> Option<&'static str> {
        self.reason.hint(self.address.scheme())
    }

    /// Returns the reason, owned.
    pub fn into_reason(self) -> DialErrorKind {
        self.reason
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}{}", self.phase(), self.address, self.reason, Hint(self.hint()))
    }
}

impl Error for DialError {
    /// Returns the first of the errors below this one that its text does not tell already; the
    /// [`reason`](DialError::reason) has all of them.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        untold_cause(&self.to_string(), Some(&self.reason))
    }
}

/// The phase in which a dial failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DialPhase {
    /// Finding the addresses of a name.
    Resolve,
    /// Reaching one of them.
    Connect,
}

/// The phase as the beginning of a sentence: `resolving`, `connecting to`.
impl fmt::Display for DialPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DialPhase::Resolve => "resolving",
            DialPhase::Connect => "connecting to",
        })
    }
}

/// The reason why a dial failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialErrorKind {
    /// The address is fine, but its scheme is not one that this build can dial.
    #[error("the scheme {scheme} is not built in")]
    NotBuiltIn {
        /// The scheme of the address.
        scheme: Scheme,
    },
    /// Port 0, or an IP address like `0.0.0.0`: a place to listen, not to dial.
    #[error("one can listen at such an address, not dial it")]
    Unspecified,
    /// The name does not exist, or the resolver could not answer.
    #[error("the name {host} does not resolve: {error}")]
    Resolve {
        /// The name to resolve.
        host: String,
        /// The resolver's error.
        error: io::Error,
    },
    /// The resolver did not answer in time.
    #[error("no answer about the name {host} within {}", HumanDuration(*limit))]
    ResolveTimeout {
        /// The name to resolve.
        host: String,
        /// The time limit; see [`Dialer::resolve_timeout`](crate::Dialer::resolve_timeout).
        limit: Duration,
    },
    /// The name exists, and has no address that can be dialed.
    #[error("the name {host} has no addresses")]
    NoAddresses {
        /// The name to resolve.
        host: String,
    },
    /// Every address was tried and failed.
    #[error("{attempts}")]
    Connect {
        /// The failure of each of them; there is at least one.
        attempts: Attempts,
    },
    /// Some addresses may have failed, and no other answered in time.
    #[error("no answer within {}{}", HumanDuration(*limit), before_timeout(attempts.as_ref()))]
    ConnectTimeout {
        /// The time limit of all addresses together; see
        /// [`Dialer::connect_timeout`](crate::Dialer::connect_timeout).
        limit: Duration,
        /// The addresses that did answer, with a failure; `None` if there were none.
        attempts: Option<Attempts>,
    },
    /// A server accepted the connection, and the handshake of TLS failed.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(TlsErrorKind),
    /// A server accepted the connection, and did not complete the handshake of TLS in time.
    #[cfg(feature = "tls")]
    #[error("it accepted the connection, and did not complete the TLS handshake within {}", HumanDuration(*limit))]
    TlsTimeout {
        /// The time limit, connecting included; see
        /// [`Dialer::connect_timeout`](crate::Dialer::connect_timeout).
        limit: Duration,
    },
    /// No connection was tried, since this side's TLS cannot be set up.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    TlsSetup(TlsError),
    /// A server accepted the connection, and gave no stream.
    #[cfg(feature = "http")]
    #[error(transparent)]
    Opening(#[from] HttpUpgradeError),
    /// The proxy on the way was not reached, or did not reach the address.
    #[cfg(feature = "http")]
    #[error("through the proxy {proxy}: {reason}")]
    Proxy {
        /// The proxy, without credentials.
        proxy: String,
        /// The reason there.
        reason: Box<DialErrorKind>,
    },
    /// A variable of the environment holds what is no proxy.
    #[cfg(feature = "http")]
    #[error("the environment variable {variable}: {error}")]
    ProxyVariable {
        /// The name of the variable.
        variable: &'static str,
        /// The error in it.
        error: ProxyError,
    },
}

/// A hint at the end of a sentence.
struct Hint(Option<&'static str>);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |hint| write!(f, ": {hint}"))
    }
}

impl DialErrorKind {
    /// Returns what to try instead of `scheme`.
    fn hint(&self, scheme: Scheme) -> Option<&'static str> {
        match (self, scheme) {
            #[cfg(feature = "tls")]
            (DialErrorKind::Tls(TlsErrorKind::NotTls), Scheme::Tls) => Some("try `tcp@`"),
            #[cfg(feature = "tls")]
            (DialErrorKind::Tls(TlsErrorKind::NotTls), Scheme::Https) => Some("try `http@`"),
            #[cfg(feature = "tls")]
            (DialErrorKind::Tls(TlsErrorKind::NotTls), Scheme::Wss) => Some("try `ws@`"),
            #[cfg(feature = "tls")]
            (DialErrorKind::Tls(TlsErrorKind::NotFarcall), Scheme::Tls) => Some("try `https@` or `wss@`"),
            #[cfg(feature = "http")]
            (DialErrorKind::Opening(HttpUpgradeError::NotHttp { .. }), Scheme::Http | Scheme::Connect) => {
                Some("try `tcp@`, or `https@` if it is encrypted")
            }
            #[cfg(feature = "http")]
            (DialErrorKind::Opening(HttpUpgradeError::NotHttp { .. }), Scheme::Ws) => {
                Some("try `tcp@`, or `wss@` if it is encrypted")
            }
            #[cfg(feature = "http")]
            (DialErrorKind::Opening(HttpUpgradeError::NotHttp { .. }), Scheme::Https | Scheme::Wss) => {
                Some("try `tls@`")
            }
            _ => None,
        }
    }

    /// Creates the error of addresses none of which has answered in time; those that failed before are in `attempts`.
    pub(crate) fn timeout(limit: Duration, attempts: Attempts) -> DialErrorKind {
        DialErrorKind::ConnectTimeout {
            limit,
            attempts: Some(attempts).filter(|attempts| !attempts.is_empty()),
        }
    }

    /// Creates the error for an address that was tried once, as it was given.
    pub(crate) fn failed(address: &Address, error: io::Error) -> DialErrorKind {
        DialErrorKind::Connect { attempts: Attempts::literal([(address.clone(), error)]) }
    }

    /// Returns the phase in which the dial failed.
    pub fn phase(&self) -> DialPhase {
        match self {
            DialErrorKind::Resolve { .. }
            | DialErrorKind::ResolveTimeout { .. }
            | DialErrorKind::NoAddresses { .. } => DialPhase::Resolve,
            DialErrorKind::NotBuiltIn { .. }
            | DialErrorKind::Unspecified
            | DialErrorKind::Connect { .. }
            | DialErrorKind::ConnectTimeout { .. } => DialPhase::Connect,
            #[cfg(feature = "http")]
            DialErrorKind::Opening(_) | DialErrorKind::ProxyVariable { .. } => DialPhase::Connect,
            #[cfg(feature = "tls")]
            DialErrorKind::Tls(_) | DialErrorKind::TlsTimeout { .. } | DialErrorKind::TlsSetup(_) => {
                DialPhase::Connect
            }
            // The proxy's name may be what does not resolve, but what is dialed is another.
            #[cfg(feature = "http")]
            DialErrorKind::Proxy { .. } => DialPhase::Connect,
        }
    }
}

/// Attempts to connect that failed, in the order in which they did.
///
/// The text has them all in one line, and names their addresses if they came from a name.
#[derive(Debug)]
pub struct Attempts {
    failed: Vec<Attempt>,
    from_a_name: bool,
}

/// One address that was tried, and what came of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The address, with an IP address where that which was dialed may have a name.
    pub address: Address,
    /// The error.
    pub error: io::Error,
}

impl Attempts {
    /// Attempts at the addresses that a name resolved to.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn from_a_name(failed: impl IntoIterator<Item = (Address, io::Error)>) -> Attempts {
        Attempts { from_a_name: true, ..Attempts::literal(failed) }
    }

    /// Attempts at an address as it was given.
    pub(crate) fn literal(failed: impl IntoIterator<Item = (Address, io::Error)>) -> Attempts {
        let attempt = |(address, error)| Attempt { address, error };
        Attempts { failed: failed.into_iter().map(attempt).collect(), from_a_name: false }
    }

    /// The attempts, the earliest failure first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Attempt> + ExactSizeIterator {
        self.failed.iter()
    }

    /// Returns the number of attempts that failed.
    pub fn len(&self) -> usize {
        self.failed.len()
    }

    /// Returns `true` if there were none.
    pub fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }
}

/// Returns attempts as the end of a sentence about a timeout.
fn before_timeout(attempts: Option<&Attempts>) -> String {
    attempts.map(|attempts| format!("; before that: {attempts}")).unwrap_or_default()
}

/// There is no source: the text has all failures, and [`Attempts::iter`] returns them.
impl Error for Attempts {}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Attempt { address, error }) in self.failed.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            if self.from_a_name {
                write!(f, "{address}: ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use farcall_test_support::errors::assert_told_once;

    use super::*;

    #[test]
    fn chain_of_an_error_has_each_fact_once() {
        let address = Address::parse("tcp@127.0.0.1:1").unwrap();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let attempts = || Attempts::literal([(address.clone(), refused())]);
        let mut kinds = vec![
            DialErrorKind::Resolve { host: "a.test".to_owned(), error: refused() },
            DialErrorKind::failed(&address, refused()),
            DialErrorKind::timeout(Duration::from_secs(1), attempts()),
        ];
        #[cfg(feature = "tls")]
        kinds.push(DialErrorKind::TlsSetup(TlsError::other(refused())));
        #[cfg(feature = "http")]
        kinds.extend([
            DialErrorKind::Opening(refused().into()),
            DialErrorKind::Opening(HttpUpgradeError::NotHttp { error: httparse::Error::Token }),
            DialErrorKind::Proxy {
                proxy: "http://proxy:1".to_owned(),
                reason: Box::new(DialErrorKind::failed(&address, refused())),
            },
            DialErrorKind::ProxyVariable {
                variable: "http_proxy",
                error: ProxyError::Address(Address::parse("tcp@").unwrap_err()),
            },
        ]);
        for kind in kinds {
            assert_told_once(&kind);
            assert_told_once(&DialError::new(&address, kind));
        }
    }

    #[test]
    fn timeout_has_the_failures_before_it() {
        let limit = Duration::from_secs(1);
        let none = DialErrorKind::timeout(limit, Attempts::literal([]));
        assert_eq!(none.to_string(), "no answer within 1 s");
        assert!(none.source().is_none());
        let address = Address::parse("tcp@127.0.0.1:1").unwrap();
        let failed = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = DialError::new(
            &address,
            DialErrorKind::timeout(limit, Attempts::literal([(address.clone(), failed)])),
        );
        assert!(error.source().is_none(), "its text tells all: {error}");
        let DialErrorKind::ConnectTimeout { attempts: Some(attempts), .. } = error.reason() else {
            panic!("{error:?}")
        };
        let last = attempts.iter().next_back().unwrap();
        assert_eq!(last.error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(
            error.to_string().ends_with(&format!("no answer within 1 s; before that: {attempts}")),
            "{error}"
        );
    }
}
