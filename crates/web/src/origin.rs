//! [`OriginCheck`]: refuses requests that a foreign web page made a browser send.
//!
//! A page in a visitor's browser can send requests to servers that only the visitor reaches, and, by a
//! host name that its owner resolves to such a server, read the answers ("DNS rebinding"). So a
//! name in `Host` must be allowed, and an `Origin` must be the host itself or be allowed. An IP address
//! needs no list: a page that was loaded from this address came from this server.
//!
//! Browsers omit `Origin` from some requests, such as forms of pages with a strict `Referrer-Policy` and of old
//! browsers. Those are recognized by `Sec-Fetch-Site` and `Referer`. Programs send none of the three.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{HOST, HeaderName, ORIGIN, REFERER};
use axum::http::{HeaderMap, Method, Uri};

use crate::authority::{Authority, Origin};

/// The relation of the page that made the request to this server (Fetch Metadata, W3C).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The mode of the request: `navigate` for links, the address bar and forms.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The hosts and origins that a server answers to.
///
/// `localhost` and loopback addresses are always allowed.
///
/// ```
/// use axum::http::Method;
/// use axum::http::header::{HOST, HeaderMap, HeaderValue};
/// use farcall_web::{Authority, OriginCheck};
///
/// let check = OriginCheck::any_address()
///     .allow_hosts([Authority::parse("calc.example.com").expect("it is a host")]);
/// let mut headers = HeaderMap::new();
/// headers.insert(HOST, HeaderValue::from_static("calc.example.com"));
/// assert!(check.check(&Method::GET, &"/".parse()?, &headers).is_ok());
/// headers.insert(HOST, HeaderValue::from_static("evil.example"));
/// assert!(check.check(&Method::GET, &"/".parse()?, &headers).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct OriginCheck {
    addresses: AllowedAddresses,
    hosts: Vec<Authority>,
    origins: Vec<Origin>,
    hosts_are_origins: bool,
}

/// The IP addresses that `Host` may contain, with any port: ports are forwarded.
#[derive(Clone, Debug)]
enum AllowedAddresses {
    Any,
    Listening(Vec<IpAddr>),
}

/// The characters of a header that an error shows.
const MAX_SHOWN_CHARS: usize = 128;

/// Returns the beginning of a header, escaped.
fn shown(value: &str) -> String {
    let rest = if value.chars().nth(MAX_SHOWN_CHARS).is_some() { "…" } else { "" };
    value.chars().take(MAX_SHOWN_CHARS).flat_map(char::escape_debug).chain(rest.chars()).collect()
}

/// The reason why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// There is no `Host` header.
    #[error("there is no header `Host`")]
    MissingHost,
    /// There are two `Host` headers, which different programs would read differently.
    #[error("there are two headers `Host`")]
    DuplicateHost,
    /// The `Host` header is not text.
    #[error("the header `Host` is not text")]
    HostNotText,
    /// The `Host` header names a host that is not allowed.
    #[error("`Host: {}` is not this server's: it must be {expected}", shown(host))]
    ForeignHost {
        /// The header's value.
        host: String,
        /// The hosts that are allowed, in words.
        expected: &'static str,
    },
    /// The `Origin` header names an origin that is not allowed.
    #[error("`Origin: {}` is a foreign origin and is not allowed", shown(origin))]
    ForeignOrigin {
        /// The header's value.
        origin: String,
    },
    /// The `Referer` header names a page of an origin that is not allowed.
    #[error("`Referer: {}` is a page of a foreign origin and is not allowed", shown(referer))]
    ForeignReferer {
        /// The header's value.
        referer: String,
    },
    /// The browser says that a page of another site made the request.
    #[error(
        "a page of another site made this request (`Sec-Fetch-Site: {}`), which is not allowed",
        shown(site)
    )]
    CrossSite {
        /// The header's value.
        site: String,
    },
}

impl OriginCheck {
    /// Creates a check that accepts every IP address as host.
    #[must_use]
    pub const fn any_address() -> Self {
        Self::new(AllowedAddresses::Any)
    }

    /// Creates a check that accepts the addresses that the server listens on, which are all if it
    /// listens on the unspecified address.
    #[must_use]
    pub fn listening_on(addresses: &[SocketAddr]) -> Self {
        let addresses: Vec<_> = addresses.iter().map(|address| address.ip().to_canonical()).collect();
        let is_any = addresses.iter().any(IpAddr::is_unspecified);
        Self::new(if is_any { AllowedAddresses::Any } else { AllowedAddresses::Listening(addresses) })
    }

    const fn new(addresses: AllowedAddresses) -> Self {
        Self { addresses, hosts: Vec::new(), origins: Vec::new(), hosts_are_origins: false }
    }

    /// Adds hosts that requests may be for.
    #[must_use]
    pub fn allow_hosts(mut self, hosts: impl IntoIterator<Item = Authority>) -> Self {
        self.hosts.extend(hosts);
        self
    }

    /// Adds origins whose pages may send requests.
    #[must_use]
    pub fn allow_origins(mut self, origins: impl IntoIterator<Item = Origin>) -> Self {
        self.origins.extend(origins);
        self
    }

    /// Allows pages of the allowed hosts even if `Host` is another one: a reverse proxy may have
    /// replaced it.
    #[must_use]
    pub const fn allow_origins_of_hosts(mut self) -> Self {
        self.hosts_are_origins = true;
        self
    }

    /// Checks `Host` and `Origin` of a request that a browser may have sent; without `Origin`, `Sec-Fetch-Site` and
    /// `Referer`. Following a link to this server is allowed from everywhere: it changes nothing, and the foreign page
    /// learns nothing.
    ///
    /// # Errors
    ///
    /// The host, or the page that made the request, is not allowed.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), OriginError> {
        let text = host_of(uri, headers)?;
        let host = Authority::parse(text).filter(|host| self.allows_host(host)).ok_or_else(|| {
            OriginError::ForeignHost { host: text.to_owned(), expected: self.expected_host() }
        })?;
        if headers.contains_key(ORIGIN) {
            return headers.get_all(ORIGIN).iter().try_for_each(|origin| {
                let text = origin.to_str().unwrap_or("(not text)");
                if Origin::parse(text).is_some_and(|origin| self.allows_origin(&origin, &host)) {
                    return Ok(());
                }
                Err(OriginError::ForeignOrigin { origin: text.to_owned() })
            });
        }
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let is_link = is_read && headers.get(SEC_FETCH_MODE).is_none_or(|mode| mode == "navigate");
        if is_link { Ok(()) } else { self.check_page(&host, headers) }
    }

    /// Checks a request that opens a stream of calls. A request without `Origin`, `Referer` and `Sec-Fetch-Site` was not
    /// made by a page, so any `Host` is accepted.
    ///
    /// # Errors
    ///
    /// As for [`OriginCheck::check`].
    pub fn check_upgrade(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), OriginError> {
        let is_of_page = [ORIGIN, REFERER, SEC_FETCH_SITE].iter().any(|name| headers.contains_key(name));
        // Not as a read, whatever its method is.
        if is_of_page { self.check(&Method::CONNECT, uri, headers) } else { Ok(()) }
    }

    /// Checks what a browser says about the page that made a request, other than `Origin`.
    fn check_page(&self, host: &Authority, headers: &HeaderMap) -> Result<(), OriginError> {
        let mut is_of_allowed_page = false;
        for referer in headers.get_all(REFERER) {
            let text = referer.to_str().unwrap_or("(not text)");
            if !Origin::of_url(text).is_some_and(|origin| self.allows_origin(&origin, host)) {
                return Err(OriginError::ForeignReferer { referer: text.to_owned() });
            }
            is_of_allowed_page = true;
        }
        for site in headers.get_all(SEC_FETCH_SITE) {
            // `none` is the user: the address bar, a bookmark.
            if site != "same-origin" && site != "none" && !is_of_allowed_page {
                let site = site.to_str().unwrap_or("(not text)").to_owned();
                return Err(OriginError::CrossSite { site });
            }
        }
        Ok(())
    }

    fn allows_host(&self, host: &Authority) -> bool {
        let allows_address = |address: IpAddr| match &self.addresses {
            AllowedAddresses::Any => true,
            AllowedAddresses::Listening(listening) => address.is_loopback() || listening.contains(&address),
        };
        host.host == "localhost" || host.address().is_some_and(allows_address) || self.lists_host(host)
    }

    fn lists_host(&self, host: &Authority) -> bool {
        let fits = |allowed: &Authority| {
            allowed.host == host.host && (allowed.port.is_none() || allowed.port == host.port)
        };
        self.hosts.iter().any(fits)
    }

    fn allows_origin(&self, origin: &Origin, host: &Authority) -> bool {
        let is_of_host =
            || self.hosts_are_origins && self.lists_host(&Authority::new(&origin.host, origin.port));
        origin.is_same_host(host) || self.origins.contains(origin) || is_of_host()
    }

    const fn expected_host(&self) -> &'static str {
        match self.addresses {
            AllowedAddresses::Any => "an IP address, localhost, or an allowed host",
            AllowedAddresses::Listening(_) => {
                "a loopback name, the address that the server listens on, or an allowed host"
            }
        }
    }
}

/// Returns the host that the request names: `Host`, or `:authority` of HTTP/2.
fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, OriginError> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next(), uri.authority()) {
        (_, Some(_), _) => Err(OriginError::DuplicateHost),
        (Some(host), None, _) => host.to_str().map_err(|_| OriginError::HostNotText),
        (None, None, Some(authority)) => Ok(authority.as_str()),
        (None, None, None) => Err(OriginError::MissingHost),
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

    fn hosts<const N: usize>(hosts: [&str; N]) -> [Authority; N] {
        hosts.map(|host| Authority::parse(host).unwrap())
    }

    /// As the debug page's server configures it.
    fn any_address() -> OriginCheck {
        OriginCheck::any_address()
            .allow_hosts(hosts(["calc.example.com", "Other.example.com:7080"]))
            .allow_origins(Origin::parse("https://app.example.com"))
    }

    /// As the registry configures it.
    fn listening_on(address: &str) -> OriginCheck {
        OriginCheck::listening_on(&[address.parse().unwrap()])
            .allow_hosts(hosts(["registry.example.com", "Other.example.com:7100"]))
            .allow_origins_of_hosts()
    }

    #[test]
    fn hosts_are_addresses_localhost_and_allowed_names() {
        for (host, allowed) in [
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
            ("localhost/", false),
            ("", false),
        ] {
            let checked = any_address().check(&Method::POST, &Uri::from_static("/"), &headers(host, None));
            assert_eq!(checked.is_ok(), allowed, "{host}: {checked:?}");
        }
    }

    #[test]
    fn only_listening_addresses_are_hosts_of_a_server_that_lists_them() {
        let check = listening_on("10.0.0.5:7100");
        for (host, allowed) in [
            ("127.0.0.1", true),
            ("127.0.0.1:1", true),
            ("localhost:7100", true),
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
        ] {
            let checked = check.check(&Method::POST, &Uri::from_static("/"), &headers(host, None));
            assert_eq!(checked.is_ok(), allowed, "{host}: {checked:?}");
        }
    }

    #[test]
    fn server_on_the_unspecified_address_accepts_any_address_but_not_any_name() {
        let check = OriginCheck::listening_on(&["0.0.0.0:7100".parse().unwrap()]);
        assert!(check.check(&Method::POST, &Uri::from_static("/"), &headers("10.0.0.6:7100", None)).is_ok());
        assert!(
            check.check(&Method::POST, &Uri::from_static("/"), &headers("evil.example:7100", None)).is_err()
        );
    }

    #[test]
    fn origin_is_the_host_itself_or_an_allowed_one() {
        for (host, origin, allowed) in [
            ("localhost:7080", "http://localhost:7080", true),
            ("localhost", "http://localhost", true),
            ("localhost", "https://localhost", true),
            ("calc.example.com", "https://calc.example.com", true),
            ("localhost:80", "http://localhost", true),
            ("localhost:7080", "https://app.example.com", true),
            ("localhost:7080", "https://app.example.com:443", true),
            ("localhost:7080", "http://app.example.com", false),
            ("localhost:7080", "https://app.example.com:8443", false),
            ("localhost:7080", "http://localhost:3000", false),
            ("localhost:7080", "http://127.0.0.1:7080", false),
            ("localhost:7080", "http://evil.example", false),
            // An allowed host is no allowed origin here.
            ("localhost:7080", "https://calc.example.com", false),
            // A name that resolves to this server is no host of it.
            ("evil.example:7080", "http://evil.example:7080", false),
            ("localhost:7080", "ftp://localhost:7080", false),
            ("localhost:7080", "null", false),
            ("localhost:7080", "", false),
        ] {
            let headers = headers(host, Some(origin));
            for checked in [
                any_address().check(&Method::POST, &Uri::from_static("/"), &headers),
                any_address().check_upgrade(&Uri::from_static("/"), &headers),
            ] {
                assert_eq!(checked.is_ok(), allowed, "{host} {origin}: {checked:?}");
            }
        }
    }

    #[test]
    fn origins_of_allowed_hosts_are_accepted_if_enabled() {
        for (origin, allowed) in [
            ("https://registry.example.com", true),
            ("https://registry.example.com:8443", true),
            ("http://other.example.com:7100", true),
            ("http://other.example.com", false),
            ("http://127.0.0.1:7100", true),
            ("http://localhost:7100", false),
            ("http://evil.example", false),
        ] {
            let headers = headers("127.0.0.1:7100", Some(origin));
            let checked =
                listening_on("127.0.0.1:7100").check(&Method::POST, &Uri::from_static("/"), &headers);
            assert_eq!(checked.is_ok(), allowed, "{origin}: {checked:?}");
        }
    }

    fn page(headers: &[(&str, &str)]) -> HeaderMap {
        let mut all = self::headers("localhost:7100", None);
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            all.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        all
    }

    #[test]
    fn requests_without_origin_are_judged_by_what_else_the_browser_says() {
        const SITE: &str = "sec-fetch-site";
        const MODE: &str = "sec-fetch-mode";
        for (headers, allowed) in [
            (&[][..], true),
            (&[(SITE, "same-origin")], true),
            (&[(SITE, "none"), (MODE, "navigate")], true),
            (&[(SITE, "cross-site")], false),
            (&[(SITE, "same-site")], false),
            (&[(SITE, "cross-site"), (MODE, "navigate")], false),
            (&[(SITE, "Same-Origin")], false),
            (&[(SITE, "\u{e9}")], false),
            (&[(SITE, "same-origin"), (SITE, "cross-site")], false),
            (&[("referer", "http://localhost:7100/")], true),
            (&[("referer", "http://localhost:7100")], true),
            (&[("referer", "https://app.example.com/deep?a=b#c")], true),
            (&[("referer", "https://app.example.com?a=b"), (SITE, "cross-site")], true),
            (&[("referer", "http://evil.example/")], false),
            (&[("referer", "http://evil.example/http://localhost:7100/")], false),
            (&[("referer", "http://evil.example?http://localhost:7100")], false),
            (&[("referer", "http://localhost:7100@evil.example/")], false),
            (&[("referer", "http://localhost:7101/")], false),
            (&[("referer", "http://evil.example/"), (SITE, "same-origin")], false),
            (&[("referer", "http://localhost:7100/"), ("referer", "http://evil.example/")], false),
            (&[("referer", "about:blank")], false),
            (&[("referer", "")], false),
        ] {
            let headers = page(headers);
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
                let checked = any_address().check(&method, &Uri::from_static("/"), &headers);
                assert_eq!(checked.is_ok(), allowed, "{method} {headers:?}: {checked:?}");
            }
            let checked = any_address().check_upgrade(&Uri::from_static("/"), &headers);
            assert_eq!(checked.is_ok(), allowed, "{headers:?}: {checked:?}");
        }
    }

    #[test]
    fn links_lead_here_from_everywhere_and_other_reads_do_not() {
        let foreign = ("referer", "http://evil.example/");
        let cross = ("sec-fetch-site", "cross-site");
        let get = |headers: &[(&str, &str)]| {
            any_address().check(&Method::GET, &Uri::from_static("/"), &page(headers)).is_ok()
        };
        assert!(get(&[foreign]) && get(&[foreign, cross, ("sec-fetch-mode", "navigate")]));
        for mode in ["no-cors", "cors", "websocket", "same-origin"] {
            assert!(!get(&[cross, ("sec-fetch-mode", mode)]), "{mode}");
        }
        assert!(get(&[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")]));
    }

    #[test]
    fn whitespace_is_no_part_of_a_host() {
        // HTTP excludes it around a header's value (RFC 9110, section 5.5); here it was not excluded.
        for host in
            ["localhost\t", "\tlocalhost", "localhost\t:80", "local\thost", "localhost ", " localhost"]
        {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
            let checked = any_address().check(&Method::GET, &Uri::from_static("/"), &headers);
            assert!(matches!(checked, Err(OriginError::ForeignHost { .. })), "{host:?}: {checked:?}");
        }
    }

    #[test]
    fn program_opens_streams_by_any_name() {
        let headers = headers("calc.internal:7080", None);
        assert_eq!(any_address().check_upgrade(&Uri::from_static("/"), &headers), Ok(()));
        assert!(any_address().check(&Method::POST, &Uri::from_static("/"), &headers).is_err());
    }

    #[test]
    fn ambiguous_and_missing_hosts_are_refused() {
        let check = |headers: &HeaderMap| any_address().check(&Method::POST, &Uri::from_static("/"), headers);
        assert_eq!(check(&HeaderMap::new()), Err(OriginError::MissingHost));
        let mut two = headers("localhost", None);
        two.append(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(check(&two), Err(OriginError::DuplicateHost));
        let mut bytes = HeaderMap::new();
        bytes.insert(HOST, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(check(&bytes), Err(OriginError::HostNotText));
        assert!(
            any_address()
                .check(&Method::POST, &Uri::from_static("http://localhost/"), &HeaderMap::new())
                .is_ok()
        );
    }
}
