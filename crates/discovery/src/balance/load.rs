//! The load of an endpoint, as a client sees it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use farcall_runtime::time::Instant;

/// The load of an endpoint that a client has seen: calls in flight, and their latency. Without locks.
#[derive(Debug)]
// A cache line of its own (two, since they are fetched in pairs), so that calls to one endpoint do
// not slow those to the next.
#[repr(align(128))]
pub struct Load {
    in_flight: AtomicUsize,
    /// The peak-sensitive moving average of latency, in nanoseconds; zero before the first.
    latency: AtomicU64,
    /// When that was last changed, in nanoseconds since `born`.
    changed: AtomicU64,
    born: Instant,
}

/// The time after which what was measured counts for 1/e.
const DECAY: Duration = Duration::from_secs(10);

impl Default for Load {
    fn default() -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            latency: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            born: Instant::now(),
        }
    }
}

impl Load {
    /// Returns the number of calls of this client in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The moving average of latency, which jumps to a peak at once and falls slowly: with time,
    /// too, so that an endpoint that was slow is tried again. Zero where nothing is known.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.latency_at(Instant::now())
    }

    /// Returns [`Load::latency`] at this moment, for callers that compare several and read the clock once.
    #[must_use]
    pub fn latency_at(&self, now: Instant) -> Duration {
        let latency = self.latency.load(Ordering::Relaxed);
        if latency == 0 {
            return Duration::ZERO;
        }
        let age = self.age_at(now).saturating_sub(self.changed.load(Ordering::Relaxed));
        Duration::from_nanos((latency as f64 * faded(age)) as u64)
    }

    /// The moving average as the last answer left it, without what time has taken from it since.
    /// Zero where nothing is known.
    #[must_use]
    pub fn peak(&self) -> Duration {
        Duration::from_nanos(self.latency.load(Ordering::Relaxed))
    }

    /// A call goes there.
    pub fn started(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has ended, however it did.
    pub fn ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// A call was answered after this time, or is known to take at least as long.
    pub fn record_latency(&self, latency: Duration) {
        let now = self.age_at(Instant::now());
        let seen = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        let age = now.saturating_sub(self.changed.swap(now, Ordering::Relaxed));
        let last = self.latency.load(Ordering::Relaxed);
        let next = if seen > last {
            seen
        } else {
            let kept = faded(age);
            // Never zero: that is for nothing known.
            ((last as f64 * kept + seen as f64 * (1.0 - kept)) as u64).max(1)
        };
        // Of two that end at once, one may be lost: it is an average.
        self.latency.store(next, Ordering::Relaxed);
    }

    fn age_at(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Returns the share of what was known `age` nanoseconds ago that still counts.
fn faded(age: u64) -> f64 {
    (-(age as f64) / DECAY.as_nanos() as f64).exp()
}
