//! [`SocketConnector`]: connects to addresses by the WebSockets of a browser.

use std::future::poll_fn;
use std::time::Duration;

use super::error::{Attempts, DialErrorKind};
use super::limit::ConnectLimit;
use super::progress::DialProgress;
use crate::address::Address;
use crate::browser_socket::BrowserSocket;
use crate::stream::Stream;

/// The path of the WebSocket at a server.
const PATH: &str = "/_farcall_";

/// The settings of connecting in a browser. [`Dialer`](crate::Dialer) documents them.
#[derive(Clone)]
pub(super) struct SocketConnector {
    pub(super) connect_timeout: Option<Duration>,
    pub(super) progress: DialProgress,
}

impl Default for SocketConnector {
    fn default() -> Self {
        Self { connect_timeout: Some(Duration::from_secs(10)), progress: DialProgress::default() }
    }
}

impl SocketConnector {
    /// Opens a WebSocket to a `ws` or `wss` address.
    pub(super) async fn connect(&self, address: &Address) -> Result<Stream, DialErrorKind> {
        let failed = |error| DialErrorKind::failed(address, error);
        let mut socket = BrowserSocket::open(&url(address)).map_err(failed)?;
        let opened = poll_fn(|cx| socket.poll_open(cx));
        match ConnectLimit::start(self.connect_timeout).run(opened).await {
            Ok(Ok(())) => Ok(Stream::new(socket)),
            Ok(Err(error)) => Err(failed(error)),
            Err(limit) => Err(DialErrorKind::timeout(limit, Attempts::literal([]))),
        }
    }
}

/// Returns the URL of the WebSocket at a server.
fn url(address: &Address) -> String {
    let (scheme, text) = (address.scheme(), address.to_string());
    let place = text.split_once('@').map_or(text.as_str(), |(_scheme, place)| place);
    format!("{scheme}://{place}{PATH}")
}
