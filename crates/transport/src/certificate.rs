//! The facts of a TLS connection and of its peer: [`TlsInfo`], [`PeerCertificate`].
//!
//! Plain data, also where TLS is not built in, so that what carries it need not differ.

use std::fmt;
use std::net::IpAddr;

/// The outcome of a TLS handshake, and the identity of the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The version, such as `TLSv1.3`.
    pub version: &'static str,
    /// The protocol inside that both sides agreed on (ALPN), such as `farcall/1`; `None` if they agreed
    /// on nothing.
    pub alpn: Option<String>,
    /// The name that the client requested (SNI), as a server sees it; `None` if it gave none, as
    /// for an IP address.
    pub server_name: Option<String>,
    /// `true` if an earlier session was resumed. The certificate is that of the earlier one then.
    pub resumed: bool,
    /// The certificate of the other side, which was verified; `None` if it gave none.
    pub certificate: Option<PeerCertificate>,
}

/// A certificate of a peer, of which TLS has verified that the peer holds its key, that an
/// authority that is trusted signed it, and that it is valid at this time.
///
/// The names are as the authority signed them; the text of a name may be anything that the
/// authority lets pass.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCertificate {
    /// The subject alternative names, in the order of the certificate.
    pub names: Vec<SubjectName>,
    /// The common name of the subject, if it has one.
    pub common_name: Option<String>,
    /// The serial number in hexadecimal, as in `04:d2`.
    pub serial: String,
    /// When it expires, in seconds since 1970.
    pub not_after: i64,
    /// The whole certificate, in DER.
    pub der: Vec<u8>,
}

/// One of the names that a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubjectName {
    /// A name of the DNS, such as `billing.example`. It may begin with `*.`.
    Dns(String),
    /// A URI, such as `spiffe://example/billing`.
    Uri(String),
    /// An address of mail.
    Email(String),
    /// An IP address.
    Ip(IpAddr),
}

impl PeerCertificate {
    /// The name to call its holder by: the first subject alternative name, or else the common
    /// name; `None` if there is neither.
    pub fn name(&self) -> Option<String> {
        self.names.first().map(ToString::to_string).or_else(|| self.common_name.clone())
    }

    /// Returns `true` if one of its subject alternative names is exactly this one.
    pub fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|one| one.to_string() == name)
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubjectName::Dns(name) | SubjectName::Uri(name) | SubjectName::Email(name) => f.write_str(name),
            SubjectName::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Leaves out the DER, which is long and has the same content.
impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCertificate")
            .field("names", &self.names)
            .field("common_name", &self.common_name)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: Vec<SubjectName>, common_name: Option<&str>) -> PeerCertificate {
        let (common_name, serial) = (common_name.map(str::to_owned), "04:d2".to_owned());
        PeerCertificate { names, common_name, serial, not_after: 0, der: vec![211; 3] }
    }

    #[test]
    fn name_of_a_certificate_is_its_first_or_its_common_name() {
        let names = vec![
            SubjectName::Uri("spiffe://a/b".to_owned()),
            SubjectName::Dns("a.example".to_owned()),
            SubjectName::Email("a@b".to_owned()),
            SubjectName::Ip("::1".parse().unwrap()),
        ];
        let both = certificate(names, Some("common"));
        assert_eq!(both.name().as_deref(), Some("spiffe://a/b"));
        for name in ["spiffe://a/b", "a.example", "a@b", "::1"] {
            assert!(both.has_name(name), "{name}");
        }
        assert!(!both.has_name("common") && !both.has_name("a.exampl") && !both.has_name(""));
        assert_eq!(certificate(Vec::new(), Some("common")).name().as_deref(), Some("common"));
        assert_eq!(certificate(Vec::new(), None).name(), None);
        let shown = format!("{both:?}");
        assert!(shown.contains("04:d2") && shown.contains("a.example") && !shown.contains("211"), "{shown}");
    }
}
