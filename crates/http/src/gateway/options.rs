//! [`Gateway`]: the settings of calls by plain HTTP.

use std::time::Duration;

use farcall_protocol::MaxFrameBytes;

/// The settings of calls by plain HTTP: `POST /rpc/Service.method`, with the arguments in JSON.
/// [`HttpOptions::gateway`](crate::HttpOptions::gateway) enables them.
///
/// ```
/// use farcall_http::{Gateway, HttpOptions};
///
/// let gateway = Gateway::default().max_body_bytes(64 * 1024).title("Calculator").version("2.1.0");
/// let options = HttpOptions::default().gateway(gateway);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Gateway {
    pub(super) max_body_bytes: usize,
    pub(super) buffered_bytes: usize,
    pub(super) body_timeout: Option<Duration>,
    pub(super) title: String,
    pub(super) version: String,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            max_body_bytes: MaxFrameBytes::DEFAULT.get(),
            buffered_bytes: 256 * 1024 * 1024,
            body_timeout: Some(Duration::from_secs(30)),
            title: "farcall services".to_owned(),
            version: "1.0.0".to_owned(),
        }
    }
}

impl Gateway {
    /// Sets the largest body of a request, in bytes. Default 4 MiB, as for a frame; at least 1. A larger one is answered 413.
    ///
    /// Too low, and calls with large arguments cannot be made; too high, and a few callers use up
    /// [`Gateway::buffered_bytes`] for all.
    pub const fn max_body_bytes(mut self, bytes: usize) -> Self {
        // With zero, no call with arguments could be made.
        self.max_body_bytes = if bytes == 0 { 1 } else { bytes };
        self
    }

    /// Sets the memory for the bodies of all requests that are over 16 KiB, from their first byte to the response, in
    /// bytes, and as much for answers over 16 KiB that their clients have not taken yet; half of either is for one peer.
    /// Default 256 MiB. Requests beyond it, and calls whose answer has no room, are answered 429; the latter have been
    /// executed.
    ///
    /// Too low, and large calls fail while others are under way: all do whose body or answer is over half of it. Too high,
    /// and the process can run out of memory.
    pub const fn buffered_bytes(mut self, bytes: usize) -> Self {
        self.buffered_bytes = bytes;
        self
    }

    /// Sets the time limit for the body of a request. Default 30 s, at least 1 ms; `None` means no limit. A body that takes
    /// longer is answered 408. Too low, and large arguments over slow links do not arrive; too high, and
    /// incomplete requests occupy connections and memory as long.
    pub fn body_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.body_timeout = limit.into().map(|limit| limit.max(Duration::from_millis(1)));
        self
    }

    /// Sets the title of the OpenAPI document. Default `farcall services`.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Sets the version of the services in the OpenAPI document. Default `1.0.0`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }
}
