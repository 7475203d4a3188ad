//! [`DebugPage`]: who may see the debug page.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, Version};
use farcall_transport::PeerAddress;

/// Who may see the debug page, which tells who calls what, and what went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DebugPage {
    /// Nobody: there is nothing at its path.
    Off,
    /// Who connects from this machine, with no sign that it is a proxy which passes on what others
    /// ask: no header `Forwarded`, `Via`, `X-Real-IP` or `X-Forwarded-*`, and HTTP/1.1. Everybody
    /// else gets 403. A proxy on this machine that shows none of those signs cannot be told from a
    /// browser: let it pass on other paths only, or choose [`DebugPage::Off`].
    #[default]
    Local,
    /// Everybody who reaches the port. Put it behind a proxy that asks for a login.
    Everyone,
}

/// What proxies add, besides all that begins with [`FORWARDED`].
const SIGNS_OF_A_PROXY: [&str; 3] = ["forwarded", "via", "x-real-ip"];
const FORWARDED: &str = "x-forwarded-";

impl DebugPage {
    /// Checks who asks.
    ///
    /// # Errors
    ///
    /// Why it is not shown, as a sentence.
    pub(super) fn check(self, request: &Request) -> Result<(), String> {
        const OPENED: &str =
            "`Settings::debug_page(DebugPage::Everyone)` opens it to whoever reaches this port";
        match self {
            Self::Off => Err("the debug page is off".to_owned()),
            Self::Everyone => Ok(()),
            Self::Local if !is_local(request) => {
                Err(format!("the debug page is shown only to this machine itself; {OPENED}"))
            }
            Self::Local => match sign_of_a_proxy(request.version(), request.headers()) {
                Some(sign) => Err(format!(
                    "the debug page is shown only to this machine itself, and this request came by way of a proxy, as \
                     {sign} tells; {OPENED}"
                )),
                None => Ok(()),
            },
        }
    }
}

/// Whether it comes from this machine. What nobody knows the origin of does not.
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

/// What shows that a proxy passes the request on.
fn sign_of_a_proxy(version: Version, headers: &HeaderMap) -> Option<String> {
    // No browser speaks it any more, nor does curl unless told to; but nginx does where it is told nothing.
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
    fn only_this_machine_is_local() {
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
        assert!(DebugPage::Local.check(&request).is_ok(), "as axum says it");
    }

    #[test]
    fn what_a_proxy_passes_on_is_not_local() {
        let peer = tcp("127.0.0.1:5000");
        for header in
            ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Anything"]
        {
            let request = from(peer, Some(header), Version::HTTP_11);
            let why = DebugPage::Local.check(&request).unwrap_err();
            assert!(why.contains("DebugPage::Everyone") && why.contains(&header.to_lowercase()), "{why}");
            assert!(DebugPage::Everyone.check(&request).is_ok(), "{header}");
        }
        assert!(
            DebugPage::Local.check(&from(peer, None, Version::HTTP_10)).unwrap_err().contains("HTTP/1.0")
        );
        assert!(DebugPage::Local.check(&from(peer, Some("accept"), Version::HTTP_11)).is_ok());
    }
}
