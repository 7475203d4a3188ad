//! [`DebugPage`]: access to the debug page.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, Version};
use farcall_transport::PeerAddress;

/// The clients that may see the debug page, which shows callers, methods and errors.
///
/// ```
/// use farcall_http::{DebugPage, HttpOptions};
///
/// let options = HttpOptions::default().debug_page(DebugPage::Off);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DebugPage {
    /// No client: its path answers 404.
    Off,
    /// Clients on this machine that are not recognizable as a proxy: no header `Forwarded`, `Via`,
    /// `X-Real-IP` or `X-Forwarded-*`, and HTTP/1.1. Other clients get 403. A proxy on this machine that
    /// shows none of those signs looks like a browser: let it forward other paths only, or choose
    /// [`DebugPage::Off`].
    #[default]
    Local,
    /// Every client that reaches the port. Put it behind a proxy that requires a login.
    Everyone,
}

/// Headers that proxies add, in addition to those that begin with [`FORWARDED`].
const SIGNS_OF_A_PROXY: [&str; 3] = ["forwarded", "via", "x-real-ip"];
const FORWARDED: &str = "x-forwarded-";

impl DebugPage {
    /// Checks whether the client may see the page.
    ///
    /// # Errors
    ///
    /// The reason for the refusal, as a sentence for the client.
    pub(super) fn check(self, request: &Request) -> Result<(), String> {
        const HINT: &str =
            "`HttpOptions::debug_page(DebugPage::Everyone)` shows it to every client that reaches this port";
        match self {
            Self::Off => Err("the debug page is off".to_owned()),
            Self::Everyone => Ok(()),
            Self::Local if !is_local(request) => {
                Err(format!("the debug page is shown only to clients on this machine; {HINT}"))
            }
            Self::Local => match sign_of_a_proxy(request.version(), request.headers()) {
                Some(sign) => Err(format!(
                    "the debug page is shown only to clients on this machine, and this request came through a proxy, as \
                     {sign} shows; {HINT}"
                )),
                None => Ok(()),
            },
        }
    }
}

/// Returns `true` if the request is known to come from this machine.
fn is_local(request: &Request) -> bool {
    let extensions = request.extensions();
    let is_loopback = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
    match extensions.get::<PeerAddress>() {
        Some(PeerAddress::Tcp(address)) => is_loopback(address),
        Some(PeerAddress::Unix { .. } | PeerAddress::Memory) => true,
        Some(_) => false,
        None => extensions.get::<ConnectInfo<SocketAddr>>().is_some_and(|info| is_loopback(&info.0)),
    }
}

/// Returns the sign of a proxy that forwards the request, if there is one.
fn sign_of_a_proxy(version: Version, headers: &HeaderMap) -> Option<String> {
    // No current browser uses it, nor does curl by default; but nginx does by default.
    if version < Version::HTTP_11 {
        return Some(format!("{version:?}"));
    }
    let is_sign = |name: &&str| SIGNS_OF_A_PROXY.contains(name) || name.starts_with(FORWARDED);
    let name = headers.keys().map(|name| name.as_str()).find(is_sign)?;
    Some(format!("its header `{name}`"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::HeaderName;

    use super::*;

    fn from(peer: Option<PeerAddress>, header: Option<&str>, version: Version) -> Request {
        let mut request = Request::new(Body::empty());
        *request.version_mut() = version;
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        if let Some(name) = header {
            let value = axum::http::HeaderValue::from_static("10.0.0.7");
            request.headers_mut().insert(HeaderName::try_from(name).unwrap(), value);
        }
        request
    }

    fn tcp(address: &str) -> Option<PeerAddress> {
        Some(PeerAddress::Tcp(address.parse().unwrap()))
    }

    #[test]
    fn only_clients_on_this_machine_are_local() {
        for (peer, local) in [
            (tcp("127.0.0.1:5000"), true),
            (tcp("127.8.0.1:5000"), true),
            (tcp("[::1]:5000"), true),
            (tcp("[::ffff:127.0.0.1]:5000"), true),
            (Some(PeerAddress::unix(None, None)), true),
            (tcp("10.0.0.7:5000"), false),
            (tcp("[::ffff:10.0.0.7]:5000"), false),
            (tcp("0.0.0.0:5000"), false),
            (None, false),
        ] {
            let request = from(peer, None, Version::HTTP_11);
            assert_eq!(DebugPage::Local.check(&request).is_ok(), local, "{peer:?}");
            assert!(DebugPage::Everyone.check(&request).is_ok(), "{peer:?}");
            assert!(DebugPage::Off.check(&request).is_err(), "{peer:?}");
        }
        let mut request = from(None, None, Version::HTTP_11);
        let address: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(address));
        assert!(DebugPage::Local.check(&request).is_ok(), "axum's connect info");
    }

    #[test]
    fn forwarded_requests_are_not_local() {
        let peer = tcp("127.0.0.1:5000");
        for header in
            ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Anything"]
        {
            let request = from(peer, Some(header), Version::HTTP_11);
            let reason = DebugPage::Local.check(&request).unwrap_err();
            assert!(
                reason.contains("DebugPage::Everyone") && reason.contains(&header.to_lowercase()),
                "{reason}"
            );
            assert!(DebugPage::Everyone.check(&request).is_ok(), "{header}");
        }
        assert!(
            DebugPage::Local.check(&from(peer, None, Version::HTTP_10)).unwrap_err().contains("HTTP/1.0")
        );
        assert!(DebugPage::Local.check(&from(peer, Some("accept"), Version::HTTP_11)).is_ok());
    }
}
