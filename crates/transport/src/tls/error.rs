//! [`TlsErrorKind`]: the errors of a TLS connection.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::text::Excerpt;
use farcall_tls::in_words;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::human::HumanDuration;

/// The error of a TLS connection. `it` is the peer.
///
/// Errors of reading and writing an encrypted [`Stream`](crate::Stream) have one of these inside
/// ([`io::Error::get_ref`]) if TLS is the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The peer does not send TLS: plain text, most likely.
    #[error("it does not speak TLS")]
    NotTls,
    /// The peer speaks TLS, and does not agree on `farcall/1` inside.
    #[error("it speaks TLS, but not farcall/1 inside (ALPN)")]
    NotFarcall,
    /// The peer closed the connection in the middle of the TLS handshake.
    #[error("it closed the connection in the TLS handshake")]
    Closed,
    /// The stream ended without the close_notify of TLS: it may have been cut on the way.
    #[error("its TLS stream was cut off: it ended without a close_notify")]
    Truncated,
    /// No trusted authority has signed the certificate.
    #[error("its certificate is signed by no authority that is trusted here")]
    UnknownIssuer,
    /// The certificate was valid once.
    #[error("its certificate expired{}", ago.map(|ago| format!(" {} ago", HumanDuration(ago))).unwrap_or_default())]
    Expired {
        /// The time since then, if it is known.
        ago: Option<Duration>,
    },
    /// The certificate will be valid some time, or a clock is wrong.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// The certificate is for other names.
    #[error("its certificate is for {presented}, not for {expected}")]
    WrongName {
        /// The expected name.
        expected: Excerpt,
        /// The names of the certificate, in one line.
        presented: Excerpt,
    },
    /// The peer presented no certificate, and one is required.
    #[error("it presented no certificate, and one is required")]
    NoCertificate,
    /// The certificate is not acceptable for another reason.
    #[error("its certificate is not acceptable: {what}")]
    Certificate {
        /// The reason.
        what: String,
        /// The error.
        error: TlsCause,
    },
    /// The peer refused with an alert.
    #[error("it refused the TLS connection: {reason}")]
    Refused {
        /// The reason, in a sentence.
        reason: String,
    },
    /// Any other error of rustls.
    #[error("TLS: {error}")]
    Other {
        /// The error.
        error: TlsCause,
    },
    /// The stream below failed.
    #[error("{error}")]
    Io {
        /// The kind of the error.
        kind: io::ErrorKind,
        /// The error.
        error: TlsCause,
    },
}

/// The error of rustls, or of the stream below, that is the cause of a [`TlsErrorKind`]. Two of them are equal if their texts are.
#[derive(Clone, Debug)]
pub struct TlsCause(Arc<dyn StdError + Send + Sync>);

impl TlsCause {
    pub(super) fn new(error: impl StdError + Send + Sync + 'static) -> TlsCause {
        TlsCause(Arc::new(error))
    }

    /// Returns the error itself, which can be downcast.
    pub fn get_ref(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0
    }
}

impl fmt::Display for TlsCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_words(&self.0.to_string()))
    }
}

impl StdError for TlsCause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl PartialEq for TlsCause {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl Eq for TlsCause {}

impl TlsErrorKind {
    /// Translates an error of the handshake.
    pub(super) fn of_handshake(error: io::Error) -> TlsErrorKind {
        match rustls_error(&error) {
            Some(error) => TlsErrorKind::of(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => TlsErrorKind::Closed,
            None => TlsErrorKind::Io { kind: error.kind(), error: TlsCause::new(error) },
        }
    }

    /// Translates an error of reading or writing if TLS is the cause.
    pub(super) fn explain(error: io::Error) -> io::Error {
        match rustls_error(&error) {
            Some(error) => TlsErrorKind::of(error).into(),
            None if error.kind() == io::ErrorKind::UnexpectedEof => TlsErrorKind::Truncated.into(),
            None => error,
        }
    }

    fn of(error: &Error) -> TlsErrorKind {
        match error {
            // Plain text, read as the header of a record.
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) => TlsErrorKind::NotTls,
            Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                TlsErrorKind::NotFarcall
            }
            Error::NoCertificatesPresented => TlsErrorKind::NoCertificate,
            Error::InvalidCertificate(error) => TlsErrorKind::of_certificate(error),
            Error::AlertReceived(alert) => TlsErrorKind::Refused { reason: meaning(*alert) },
            other => TlsErrorKind::Other { error: TlsCause::new(other.clone()) },
        }
    }

    fn of_certificate(error: &CertificateError) -> TlsErrorKind {
        match error {
            // The others if a trusted authority has the same name as the one that signed it, with another key.
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                TlsErrorKind::UnknownIssuer
            }
            CertificateError::Expired => TlsErrorKind::Expired { ago: None },
            CertificateError::ExpiredContext { time, not_after } => {
                let ago = time.as_secs().saturating_sub(not_after.as_secs());
                TlsErrorKind::Expired { ago: Some(Duration::from_secs(ago)) }
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsErrorKind::NotYetValid
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let presented = if presented.is_empty() {
                    "no name".to_owned()
                } else {
                    // As rustls lists them, each with its kind; only the names matter here.
                    let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
                    names.join(", ")
                };
                TlsErrorKind::WrongName {
                    expected: Excerpt::new(&expected.to_str()),
                    presented: Excerpt::new(&presented),
                }
            }
            other => TlsErrorKind::Certificate {
                what: in_words(&other.to_string()).into_owned(),
                error: TlsCause::new(Error::InvalidCertificate(other.clone())),
            },
        }
    }
}

impl From<TlsErrorKind> for io::Error {
    fn from(error: TlsErrorKind) -> io::Error {
        let kind = match &error {
            TlsErrorKind::Truncated | TlsErrorKind::Closed => io::ErrorKind::UnexpectedEof,
            TlsErrorKind::Io { kind, .. } => *kind,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Returns the name inside of a name with its kind: `a.example` of `DnsName("a.example")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

/// Returns the meaning of an alert to the side that gets it.
fn meaning(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::CertificateRequired => "it wants a certificate of this side, and got none",
        AlertDescription::UnknownCA => "it does not trust who signed the certificate of this side",
        AlertDescription::CertificateExpired => "the certificate of this side has expired",
        AlertDescription::CertificateRevoked => "the certificate of this side was revoked",
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it does not accept the certificate of this side"
        }
        AlertDescription::UnsupportedCertificate => {
            "the certificate of this side is not of a kind it accepts"
        }
        AlertDescription::AccessDenied => "the certificate of this side is not allowed in",
        AlertDescription::ProtocolVersion => "it speaks no version of TLS that is spoken here",
        AlertDescription::HandshakeFailure => "there is no set of algorithms that both accept",
        other => return format!("{other:?}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_with_the_same_name_and_another_key_is_unknown() {
        let other_key = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: vec![6, 8],
            public_key_algorithm_id: vec![6, 9],
        };
        for error in [CertificateError::UnknownIssuer, CertificateError::BadSignature, other_key] {
            let said = TlsErrorKind::of_handshake(io::Error::other(Error::InvalidCertificate(error)));
            assert_eq!(said.to_string(), "its certificate is signed by no authority that is trusted here");
        }
    }

    #[test]
    fn cause_is_the_error_of_rustls_or_of_the_stream() {
        let own = Error::InvalidCertificate(CertificateError::Revoked);
        let error = TlsErrorKind::of_handshake(io::Error::other(own.clone()));
        assert!(error.to_string().starts_with("its certificate is not acceptable: "), "{error}");
        let TlsErrorKind::Certificate { error: cause, .. } = &error else { panic!("{error:?}") };
        assert_eq!(cause.get_ref().downcast_ref::<Error>(), Some(&own));
        assert!(StdError::source(&error).is_none(), "its text tells it");
        let error = TlsErrorKind::of_handshake(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(StdError::source(&error).is_none(), "its text tells it");
        let TlsErrorKind::Io { kind, error: cause } = &error else { panic!("{error:?}") };
        let below = cause.get_ref().downcast_ref::<io::Error>().unwrap();
        assert_eq!((*kind, below.kind()), (io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionReset));
    }
}
