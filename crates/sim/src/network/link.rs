//! [`Link`]: the properties of the way from one node to another.

use std::ops::RangeInclusive;
use std::time::Duration;

use fastrand::Rng;

/// The properties of the way from one node to another.
///
/// ```
/// use std::time::Duration;
///
/// use farcall_sim::Link;
///
/// // Another continent.
/// let far = Link::default().latency(Duration::from_millis(80), Duration::from_millis(120)).bandwidth(1_000_000);
/// # let _ = far;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Link {
    latency_ms: RangeInclusive<u64>,
    bytes_per_second: Option<u64>,
    pub(super) buffer_bytes: usize,
    pub(super) segment_bytes: usize,
}

impl Default for Link {
    fn default() -> Self {
        Self { latency_ms: 0..=2, bytes_per_second: None, buffer_bytes: 64 * 1024, segment_bytes: 16 * 1024 }
    }
}

impl Link {
    /// Sets the time that bytes take in one direction: each time another one, from `min` to `max`, in whole
    /// milliseconds. Default 0 to 2 ms. Bytes never overtake those before them.
    pub fn latency(mut self, min: Duration, max: Duration) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.latency_ms = millis(min)..=millis(max.max(min));
        self
    }

    /// Sets how many bytes pass in a second, for each connection. Default: `None`, any number.
    pub fn bandwidth(mut self, bytes_per_second: impl Into<Option<u64>>) -> Self {
        self.bytes_per_second = bytes_per_second.into().map(|bytes| bytes.max(1));
        self
    }

    /// Sets how many bytes a connection holds in each direction before its writer waits, as sockets' buffers do.
    /// Default 64 KiB, at least 1.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes.max(1);
        self
    }

    /// Sets the largest number of bytes that arrive together. Default 16 KiB, at least 1. Less finds code that expects a
    /// message to come in one piece.
    pub fn segment(mut self, bytes: usize) -> Self {
        self.segment_bytes = bytes.max(1);
        self
    }

    /// Draws the time that bytes take.
    pub(super) fn draw_latency(&self, random: &mut Rng) -> Duration {
        Duration::from_millis(random.u64(self.latency_ms.clone()))
    }

    /// Returns the time for which this many bytes occupy the link.
    pub(super) fn sending_time(&self, bytes: usize) -> Duration {
        let Some(per_second) = self.bytes_per_second else { return Duration::ZERO };
        Duration::from_secs_f64(bytes as f64 / per_second as f64)
    }
}
