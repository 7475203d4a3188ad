//! [`OriginCheck`]: requests that web pages could make a browser send, or that are not well-formed, end here.
//!
//! A page that somebody visits can send requests to addresses that only the visitor reaches, and by a
//! name of its own that it lets point there, read the answers ("DNS rebinding"). So `Host` must be
//! ours, and an `Origin` must be the host itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use super::failure::Failure;

/// The longest path with its query, in bytes: an id of 512 bytes, each percent-encoded, fits.
const MAX_URI: usize = 8 * 1024;

/// What `Host` may be.
#[derive(Debug)]
pub(super) struct OriginCheck {
    /// Addresses that it listens at, with whatever port: ports are forwarded.
    listening: Vec<IpAddr>,
    /// It listens at every address of the machine, whichever those are.
    any_address: bool,
    allowed: Vec<Authority>,
}

/// A host, and a port unless it does not matter or is the usual one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Authority {
    /// In lower case, without brackets, IP addresses in their shortest form.
    host: String,
    port: Option<u16>,
}

/// Lets through what is well-formed and meant for us.
pub(super) async fn check(State(gate): State<Arc<OriginCheck>>, request: Request, next: Next) -> Response {
    let checked = check_uri(request.uri()).and_then(|()| gate.check_host(request.uri(), request.headers()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

impl OriginCheck {
    pub(super) fn new(listening: &[SocketAddr], allowed: Vec<Authority>) -> Self {
        Self {
            listening: listening.iter().map(|address| address.ip().to_canonical()).collect(),
            any_address: listening.iter().any(|address| address.ip().to_canonical().is_unspecified()),
            allowed,
        }
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
        let text = host_of(uri, headers)?;
        let host = Authority::parse(text).filter(|host| self.is_ours(host)).ok_or_else(|| {
            let text = text.escape_debug();
            Failure::forbidden(format!(
                "`Host: {text}` is not this registry's: it must be a loopback name, the address that the registry \
                 listens at, or a host that it was told to allow"
            ))
        })?;
        let mut origins = headers.get_all(ORIGIN).iter();
        origins.try_for_each(|origin| {
            let origin = origin.to_str().unwrap_or("what is not text");
            if self.is_same(origin, &host) {
                return Ok(());
            }
            let origin = origin.escape_debug();
            Err(Failure::forbidden(format!(
                "`Origin: {origin}` is a foreign one: pages of other hosts may not ask"
            )))
        })
    }

    fn is_ours(&self, host: &Authority) -> bool {
        let by_address = |ip: IpAddr| ip.is_loopback() || self.any_address || self.listening.contains(&ip);
        let ip = host.host.parse::<IpAddr>().ok();
        host.host == "localhost" || ip.is_some_and(by_address) || self.is_allowed(host)
    }

    fn is_allowed(&self, host: &Authority) -> bool {
        let fits = |allowed: &Authority| {
            allowed.host == host.host && (allowed.port.is_none() || allowed.port == host.port)
        };
        self.allowed.iter().any(fits)
    }

    /// Whether the origin is the host that was called, or one that is allowed: a proxy may have put another
    /// `Host` in its place.
    fn is_same(&self, origin: &str, host: &Authority) -> bool {
        let Some((scheme, place)) = origin.split_once("://") else { return false };
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let with_port = |authority: &Authority| authority.port.unwrap_or(usual);
        Authority::parse(place).is_some_and(|origin| {
            let same = origin.host == host.host && with_port(&origin) == with_port(host);
            let named = Authority { port: Some(with_port(&origin)), ..origin };
            same || self.is_allowed(&named)
        })
    }
}

impl Authority {
    /// None, if the text is no host, with a port or without.
    pub(in crate::server) fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']')?;
                let address: std::net::Ipv6Addr = host.parse().ok()?;
                let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
                (IpAddr::V6(address).to_canonical().to_string(), port)
            }
            None => {
                let (host, port) = match text.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (text, None),
                };
                let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                (!host.is_empty() && host.bytes().all(known)).then_some(())?;
                (host.to_ascii_lowercase(), port)
            }
        };
        let digits =
            |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten();
        let port = match port {
            Some(port) => Some(digits(port)?),
            None => None,
        };
        Some(Self { host, port })
    }
}

/// What the request says whom it is for: `:authority` of HTTP/2, or `Host`.
fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Failure> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next(), uri.authority()) {
        (_, Some(_), _) => Err(Failure::bad_request("there are two headers `Host`")),
        (Some(host), None, _) => {
            host.to_str().map_err(|_| Failure::bad_request("the header `Host` is not text"))
        }
        (None, None, Some(authority)) => Ok(authority.as_str()),
        (None, None, None) => Err(Failure::forbidden("there is no header `Host`")),
    }
}

fn check_uri(uri: &Uri) -> Result<(), Failure> {
    let query = uri.query().unwrap_or_default();
    if uri.path().len() + query.len() > MAX_URI {
        return Err(Failure::uri_too_long(format!("path and query are longer than {MAX_URI} bytes")));
    }
    // The router would take what stands between for an empty name.
    if uri.path().contains("//") || (uri.path().len() > 1 && uri.path().ends_with('/')) {
        return Err(Failure::not_found(format!(
            "there is nothing at {}: a part of the path is empty",
            uri.path()
        )));
    }
    check_percent("path", uri.path())?;
    check_percent("query", query)
}

fn check_percent(part: &str, text: &str) -> Result<(), Failure> {
    for (at, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let error = format!("the {part} has a `%` at byte {at} without two hexadecimal digits behind it");
            return Err(Failure::bad_request(error));
        }
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(drop)
        .map_err(|_| Failure::bad_request(format!("the {part} is not UTF-8 behind its percent signs")))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn checked(gate: &OriginCheck, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::try_from(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::try_from(origin).unwrap());
        }
        gate.check_host(&Uri::from_static("/"), &headers).is_ok()
    }

    fn gate(listening: &str, allowed: &[&str]) -> OriginCheck {
        let allowed = allowed.iter().map(|host| Authority::parse(host).unwrap()).collect();
        OriginCheck::new(&[listening.parse().unwrap()], allowed)
    }

    #[test]
    fn hosts_are_loopback_names_the_listening_address_and_allowed_ones() {
        let gate = gate("10.0.0.5:7100", &["registry.example.com", "Other.example.com:7100"]);
        for (host, ours) in [
            ("127.0.0.1", true),
            ("127.0.0.1:1", true),
            ("localhost:7100", true),
            ("LocalHost", true),
            ("[::1]:7100", true),
            ("[::ffff:127.0.0.1]", true),
            ("10.0.0.5:7100", true),
            ("10.0.0.5", true),
            ("10.0.0.6:7100", false),
            ("registry.example.com", true),
            ("REGISTRY.example.com:443", true),
            ("other.example.com:7100", true),
            ("other.example.com:7101", false),
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
            ("localhost/", false),
            ("", false),
        ] {
            assert_eq!(checked(&gate, host, None), ours, "{host}");
        }
    }

    #[test]
    fn who_listens_everywhere_is_called_by_any_address_but_not_by_any_name() {
        let gate = gate("0.0.0.0:7100", &[]);
        assert!(checked(&gate, "10.0.0.6:7100", None));
        assert!(!checked(&gate, "evil.example:7100", None));
    }

    #[test]
    fn an_origin_must_be_the_host_itself() {
        let gate = gate("127.0.0.1:7100", &["registry.example.com"]);
        for (host, origin, same) in [
            ("localhost:7100", "http://localhost:7100", true),
            ("localhost", "http://localhost", true),
            ("localhost", "https://localhost", true),
            ("localhost:80", "http://localhost", true),
            ("localhost:7100", "http://localhost:3000", false),
            ("localhost:7100", "http://127.0.0.1:7100", false),
            ("localhost:7100", "http://evil.example", false),
            ("localhost:7100", "null", false),
            ("localhost:7100", "ftp://localhost:7100", false),
            ("localhost:7100", "", false),
            ("127.0.0.1:7100", "https://registry.example.com", true),
        ] {
            assert_eq!(checked(&gate, host, Some(origin)), same, "{host} {origin}");
        }
    }

    #[test]
    fn ill_formed_paths_are_refused_with_the_place() {
        for (uri, part) in [
            ("/v1/%zz", "byte 4"),
            ("/v1/a%2", "byte 5"),
            ("/v1/%", "byte 4"),
            ("/v1/%ff", "UTF-8"),
            ("/v1?a=%", "query"),
        ] {
            let failure = check_uri(&Uri::from_static(uri)).unwrap_err();
            assert!(failure.error().contains(part), "{uri}: {}", failure.error());
        }
        assert!(check_uri(&Uri::from_static("/v1/%2Frun%2Fa.sock?x=%20")).is_ok());
    }
}
