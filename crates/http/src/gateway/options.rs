//! [`Gateway`]: how calls by plain HTTP are taken.

use std::time::Duration;

use farcall_protocol::MaxFrameBytes;
use tokio::sync::Semaphore;

/// How calls by plain HTTP are taken: `POST /rpc/Service.method`, with the arguments in JSON. See
/// [`HttpOptions::gateway`](crate::Settings::gateway), which turns it on.
///
/// ```
/// use farcall_http::{Gateway, HttpOptions};
///
/// let gateway = Gateway::default().max_body_bytes(64 * 1024).title("Calculator").version("2.1.0");
/// let settings = HttpOptions::default().gateway(gateway);
/// # let _ = settings;
/// ```
#[derive(Clone, Debug)]
pub struct Gateway {
    pub(super) max_body_bytes: usize,
    pub(super) buffered_bytes: usize,
    pub(super) body_timeout: Duration,
    pub(super) title: String,
    pub(super) version: String,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            max_body_bytes: MaxFrameBytes::DEFAULT.get(),
            buffered_bytes: 256 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            title: "farcall services".to_owned(),
            version: "1.0.0".to_owned(),
        }
    }
}

impl Gateway {
    /// The largest body of a request, in bytes. Default 4 MiB, as for a frame. A larger one is answered 413.
    ///
    /// Too low, and calls with large arguments cannot be made; too high, and a few callers use up
    /// [`Gateway::buffered_bytes`] for all.
    #[must_use]
    pub const fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// The bodies of all requests together, from their first byte to the answer, in bytes. Default
    /// 256 MiB. Past it, requests are answered 429.
    #[must_use]
    pub const fn buffered_bytes(mut self, bytes: usize) -> Self {
        self.buffered_bytes = bytes;
        self
    }

    /// How long the body of a request may take to arrive. Default 30 s; one that takes longer is answered
    /// 408. Too low, and large arguments over slow links do not arrive; too high, and half requests
    /// hold their places as long.
    #[must_use]
    pub const fn body_timeout(mut self, limit: Duration) -> Self {
        self.body_timeout = limit;
        self
    }

    /// What the OpenAPI document calls it all. Default `farcall services`.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// The version of the services, as the OpenAPI document tells it. Default `1.0.0`.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// How many bytes there is room for, as permits.
    pub(super) const fn room(&self) -> usize {
        if self.buffered_bytes < Semaphore::MAX_PERMITS {
            self.buffered_bytes
        } else {
            Semaphore::MAX_PERMITS
        }
    }
}
