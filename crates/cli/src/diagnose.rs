//! Finds out what a port speaks if a connection to it fails, and says which address to write instead.
//!
//! All schemes are tried at once, with a time limit and without the token, so that the answer is there in less than a
//! second whatever the port does.

use std::fmt;
use std::time::Duration;

use farcall::client::{Connection, ConnectionOptions, Phase};
use farcall::transport::{DialError, DialErrorKind, HttpUpgradeError, Scheme, TlsClient, TlsErrorKind};
use farcall::{Address, Code, RpcError};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

/// The time limit of all probes together.
const LIMIT: Duration = Duration::from_millis(600);

/// The schemes to try, the better ones first.
const SCHEMES: [Scheme; 7] =
    [Scheme::Tls, Scheme::Tcp, Scheme::Https, Scheme::Http, Scheme::Wss, Scheme::Ws, Scheme::Connect];

/// The protocol of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Diagnosis {
    /// farcall, with another scheme.
    Other {
        /// The address to write.
        instead: Address,
        /// Another obstacle, such as a certificate that is not trusted.
        but: Option<String>,
    },
    /// Another protocol.
    Foreign(&'static str),
}

/// The result of one probe.
#[derive(Debug)]
enum Finding {
    Farcall { but: Option<String> },
    Foreign(&'static str),
    Nothing,
}

/// Returns what the port of `address` speaks; `None` if that cannot be told, or is what the address says.
pub(crate) async fn diagnose(address: &Address, tls: Option<TlsClient>) -> Option<Diagnosis> {
    if address.scheme() == Scheme::Unix {
        return None;
    }
    let mut options = ConnectionOptions::default().connect_timeout(LIMIT);
    if let Some(tls) = tls {
        options = options.tls(tls);
    }
    let mut probes: FuturesUnordered<_> = SCHEMES
        .into_iter()
        .enumerate()
        .filter(|(_, scheme)| *scheme != address.scheme())
        .map(|(rank, scheme)| {
            let (instead, options) = (address.clone().with_scheme(scheme), &options);
            async move {
                let found = match Connection::open(&instead, options).await {
                    Ok(connection) => {
                        connection.close();
                        Finding::Farcall { but: None }
                    }
                    Err(error) => finding(&error),
                };
                (rank, instead, found)
            }
        })
        .collect();
    let mut best = None;
    let mut foreign = None;
    while let Some((rank, instead, found)) = probes.next().await {
        match found {
            Finding::Farcall { but } => {
                // A certificate that is not trusted says less than a handshake.
                let rank = rank + if but.is_some() { SCHEMES.len() } else { 0 };
                if best.as_ref().is_none_or(|(known, _)| rank < *known) {
                    best = Some((rank, Diagnosis::Other { instead, but }));
                }
            }
            Finding::Foreign(what) => foreign = foreign.or(Some(Diagnosis::Foreign(what))),
            Finding::Nothing => {}
        }
    }
    // That an encrypted port speaks TLS is no news.
    let known = address.scheme().is_encrypted().then_some(Diagnosis::Foreign("TLS"));
    best.map(|(_, diagnosis)| diagnosis).or(foreign.filter(|foreign| Some(foreign) != known.as_ref()))
}

/// Returns what the error of a probe says about the port.
fn finding(error: &RpcError) -> Finding {
    if let Some(dial) = error.cause().and_then(|cause| cause.downcast_ref::<DialError>()) {
        return of_dial(dial);
    }
    let refused = error.phase() == Phase::Handshake && error.code() != Code::Unavailable;
    match error.message() {
        _ if refused => Finding::Farcall { but: Some(error.message().to_owned()) },
        message if message.contains("speaks SSH") => Finding::Foreign("SSH"),
        message if message.contains("speaks HTTP/2") => Finding::Foreign("HTTP/2"),
        _ => Finding::Nothing,
    }
}

fn of_dial(error: &DialError) -> Finding {
    match error.reason() {
        DialErrorKind::Tls(kind) => match kind {
            TlsErrorKind::UnknownIssuer
            | TlsErrorKind::Expired { .. }
            | TlsErrorKind::NotYetValid
            | TlsErrorKind::WrongName { .. }
            | TlsErrorKind::Certificate { .. } => Finding::Farcall { but: Some(kind.to_string()) },
            TlsErrorKind::Refused { .. } | TlsErrorKind::NotFarcall => Finding::Foreign("TLS"),
            _ => Finding::Nothing,
        },
        DialErrorKind::Opening(HttpUpgradeError::Refused { .. } | HttpUpgradeError::Page { .. }) => {
            Finding::Foreign("HTTP")
        }
        _ => Finding::Nothing,
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other { instead, but } => {
                let speaks = match instead.scheme() {
                    Scheme::Tls => "TLS",
                    Scheme::Https | Scheme::Wss => "HTTPS",
                    Scheme::Http | Scheme::Ws | Scheme::Connect => "HTTP",
                    _ => "farcall without TLS and HTTP",
                };
                write!(f, "this port speaks {speaks}: use {instead}")?;
                but.as_ref().map_or(Ok(()), |but| write!(f, " (but {but}; --ca names a trusted authority)"))
            }
            Self::Foreign(what) => {
                write!(f, "this port speaks {what}, and no farcall inside of it was found")
            }
        }
    }
}
