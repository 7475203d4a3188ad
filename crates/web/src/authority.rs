//! [`Authority`] and [`Origin`]: hosts and origins as browsers name them. Which of them are allowed is left to the origin check.

use std::net::{IpAddr, Ipv6Addr};

/// A host, with a port unless any port or the scheme's default is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// In lower case, without brackets, IP addresses in canonical form.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl Authority {
    /// Parses a host with an optional port. Returns `None` if the text is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']')?;
                let address: Ipv6Addr = host.parse().ok()?;
                let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
                (IpAddr::V6(address).to_canonical().to_string(), port)
            }
            None => {
                let (host, port) =
                    text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
                let is_allowed =
                    |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                (!host.is_empty() && host.bytes().all(is_allowed)).then_some(())?;
                (host.to_ascii_lowercase(), port)
            }
        };
        let port = match port {
            None => None,
            // `parse` alone would accept a plus sign.
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
            Some(_) => return None,
        };
        Some(Self { host, port })
    }

    pub(crate) fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port: Some(port) }
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// The origin of a page: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Parses `scheme://host[:port]` with the scheme `http` or `https`. Returns `None` for other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let default_port = default_port(scheme)?;
        let Authority { host, port } = Authority::parse(authority)?;
        Some(Self { scheme: scheme.to_owned(), host, port: port.unwrap_or(default_port) })
    }

    /// Returns the origin of a URL with the scheme `http` or `https`; `None` for other text.
    pub(crate) fn of_url(url: &str) -> Option<Self> {
        let authority = url.find("://")? + "://".len();
        let end = url[authority..].find(['/', '?', '#']).map_or(url.len(), |end| authority + end);
        Self::parse(&url[..end])
    }

    /// Returns `true` if it is the requested host. The scheme is not compared: behind a proxy that
    /// terminates TLS the server doesn't know which one the browser used.
    pub(crate) fn is_same_host(&self, host: &Authority) -> bool {
        self.host == host.host && Some(self.port) == host.port.or_else(|| default_port(&self.scheme))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
