//! [`OriginCheck`]: requests that web pages could make a browser send end here.
//!
//! A page that somebody visits can send requests to servers that only the visitor reaches, and by a
//! name of its own that it lets point there, read the answers ("DNS rebinding"). So a name in `Host`
//! must be ours. An IP address always is: whose page came from that address came from us. And an
//! `Origin` must be the host itself, or one that is allowed.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};

use crate::options::HttpOptions;

/// Which hosts and origins there may be.
#[derive(Debug)]
pub(crate) struct OriginCheck {
    hosts: Vec<Authority>,
    origins: Vec<Origin>,
}

/// Why a request is not answered, as a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forbidden(pub(crate) String);

/// A host, and a port unless it is the usual one, or does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Authority {
    /// In lower case, without brackets, IP addresses in their shortest form.
    host: String,
    port: Option<u16>,
}

/// Where a page comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl OriginCheck {
    /// What is no host, or no origin, among the allowed ones fits nothing.
    pub(crate) fn new(settings: &HttpOptions) -> Self {
        Self {
            hosts: settings.allowed_hosts.iter().filter_map(|host| Authority::parse(host)).collect(),
            origins: settings.allowed_origins.iter().filter_map(|origin| Origin::parse(origin)).collect(),
        }
    }

    /// Checks a request for a page, which a browser may have sent.
    ///
    /// # Errors
    ///
    /// Why it is not answered.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Forbidden> {
        let text = host_of(uri, headers)?;
        let ours = |host: &Authority| host.is_harmless() || self.allows_host(host);
        let host = Authority::parse(text).filter(ours).ok_or_else(|| {
            Forbidden(format!(
                "`Host: {}` is not this server's: it must be an IP address, localhost, or a host that the server was \
                 told to allow",
                text.escape_debug()
            ))
        })?;
        headers.get_all(ORIGIN).iter().try_for_each(|origin| {
            let text = origin.to_str().unwrap_or("what is not text");
            if Origin::parse(text).is_some_and(|origin| self.origins.contains(&origin) || origin.is(&host)) {
                return Ok(());
            }
            let text = text.escape_debug();
            Err(Forbidden(format!("`Origin: {text}` is a foreign one, and not among those that are allowed")))
        })
    }

    /// Checks a request that opens a stream. Without an `Origin`, no page has made it.
    ///
    /// # Errors
    ///
    /// As for [`OriginCheck::check`].
    pub(crate) fn check_opening(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Forbidden> {
        if headers.contains_key(ORIGIN) { self.check(uri, headers) } else { Ok(()) }
    }

    fn allows_host(&self, host: &Authority) -> bool {
        let fits = |allowed: &Authority| {
            allowed.host == host.host && (allowed.port.is_none() || allowed.port == host.port)
        };
        self.hosts.iter().any(fits)
    }
}

impl Authority {
    fn parse(text: &str) -> Option<Self> {
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
                let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                (!host.is_empty() && host.bytes().all(known)).then_some(())?;
                (host.to_ascii_lowercase(), port)
            }
        };
        let port = match port {
            None => None,
            // A number would be read with a plus sign, too.
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
            Some(_) => return None,
        };
        Some(Self { host, port })
    }

    /// Whether no page can have this name for its own.
    fn is_harmless(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok()
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, place) = text.split_once("://")?;
        let usual = usual_port(scheme)?;
        let Authority { host, port } = Authority::parse(place)?;
        Some(Self { scheme: scheme.to_owned(), host, port: port.unwrap_or(usual) })
    }

    /// Whether it is the host that was asked. Which scheme that was asked by is not known where a proxy
    /// speaks TLS for this server.
    fn is(&self, host: &Authority) -> bool {
        self.host == host.host && Some(self.port) == host.port.or_else(|| usual_port(&self.scheme))
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// What the request says whom it is for: `:authority` of HTTP/2, or `Host`.
fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Forbidden> {
    let forbidden = |why: &str| Forbidden(why.to_owned());
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next(), uri.authority()) {
        (_, Some(_), _) => Err(forbidden("there are two headers `Host`")),
        (Some(host), None, _) => host.to_str().map_err(|_| forbidden("the header `Host` is not text")),
        (None, None, Some(authority)) => Ok(authority.as_str()),
        (None, None, None) => Err(forbidden("there is no header `Host`")),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::try_from(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::try_from(origin).unwrap());
        }
        headers
    }

    fn gate() -> OriginCheck {
        let settings = HttpOptions::default()
            .allowed_host("calc.example.com")
            .allowed_host("Other.example.com:7080")
            .allowed_origin("https://app.example.com");
        OriginCheck::new(&settings)
    }

    #[test]
    fn hosts_are_addresses_localhost_and_allowed_names() {
        for (host, ours) in [
            ("127.0.0.1", true),
            ("10.0.0.5:7080", true),
            ("[::1]:7080", true),
            ("LocalHost:7080", true),
            ("calc.example.com", true),
            ("CALC.example.com:443", true),
            ("other.example.com:7080", true),
            ("other.example.com", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("localhost:", false),
            ("localhost:+1", false),
            ("localhost:99999", false),
            ("::1", false),
            ("[::1", false),
            ("user@localhost", false),
            ("", false),
        ] {
            let checked = gate().check(&Uri::from_static("/"), &headers(host, None));
            assert_eq!(checked.is_ok(), ours, "{host}: {checked:?}");
        }
    }

    #[test]
    fn an_origin_is_the_host_itself_or_an_allowed_one() {
        for (host, origin, allowed) in [
            ("localhost:7080", "http://localhost:7080", true),
            ("calc.example.com", "https://calc.example.com", true),
            ("localhost:80", "http://localhost", true),
            ("localhost:7080", "https://app.example.com", true),
            ("localhost:7080", "https://app.example.com:443", true),
            ("localhost:7080", "http://app.example.com", false),
            ("localhost:7080", "https://app.example.com:8443", false),
            ("localhost:7080", "http://localhost:3000", false),
            ("localhost:7080", "http://127.0.0.1:7080", false),
            ("localhost:7080", "http://evil.example", false),
            // A name that points here does not help: it is no host of ours.
            ("evil.example:7080", "http://evil.example:7080", false),
            ("localhost:7080", "null", false),
            ("localhost:7080", "", false),
        ] {
            let headers = headers(host, Some(origin));
            for checked in [
                gate().check(&Uri::from_static("/"), &headers),
                gate().check_opening(&Uri::from_static("/"), &headers),
            ] {
                assert_eq!(checked.is_ok(), allowed, "{host} {origin}: {checked:?}");
            }
        }
    }

    #[test]
    fn a_program_opens_streams_by_any_name() {
        let headers = headers("calc.internal:7080", None);
        assert_eq!(gate().check_opening(&Uri::from_static("/"), &headers), Ok(()));
        assert!(gate().check(&Uri::from_static("/"), &headers).is_err());
    }
}
