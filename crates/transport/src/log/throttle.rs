//! [`LogThrottle`] and [`PeerLogThrottle`]: rates for log lines that a peer can cause.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farcall_runtime::time::Instant;

use crate::peer::PeerKey;

/// Lines that pass at once by default.
const BURST: u32 = 5;
/// The time between lines after that, by default.
const INTERVAL: Duration = Duration::from_secs(10);
/// Peers that are told apart; past it, further ones share one rate until others have been quiet.
const MAX_PEERS: usize = 1024;
/// The time between two removals of quiet peers.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Lines of all peers together that pass at once, as a multiple of one peer's.
const PEERS_IN_ALL: u32 = 20;

/// A rate for one kind of log line: a few at once, then one at intervals, with the number of those between.
///
/// ```
/// use farcall_transport::log::LogThrottle;
///
/// let throttle = LogThrottle::new();
/// for _ in 0..100 {
///     if let Some(line) = throttle.permit() {
///         tracing::warn!(suppressed = line.suppressed, "refused");
///     }
/// }
/// ```
#[derive(Debug)]
pub struct LogThrottle {
    rate: Rate,
    bucket: Mutex<Bucket>,
}

/// A [`LogThrottle`] for each peer, so that one peer's lines do not hide those of another, and one for all.
///
/// Peers are told apart by their [`PeerKey`].
#[derive(Debug)]
pub struct PeerLogThrottle {
    rate: Rate,
    peers: Mutex<Peers>,
}

/// The permission to log one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogPermit {
    /// The number of lines of this kind that were suppressed since the last one; `None` if there were none. A field of
    /// the line, which `tracing` omits if it is `None`.
    pub suppressed: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    interval: Duration,
}

/// A token bucket.
#[derive(Debug, Default)]
struct Bucket {
    /// Lines that were logged and whose interval has not passed yet.
    spent: u32,
    /// The end of the interval of the first of them. `None` if no line was logged yet.
    regained: Option<Instant>,
    suppressed: u64,
}

#[derive(Debug, Default)]
struct Peers {
    buckets: HashMap<PeerKey, Bucket>,
    /// The bucket of the peers without another one.
    others: Bucket,
    all: Bucket,
    /// When quiet peers were last removed to make room.
    swept: Option<Instant>,
}

impl LogThrottle {
    /// Creates a throttle of 5 lines at once, and one every 10 s after that.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_rate(BURST, INTERVAL)
    }

    /// Creates a throttle of `burst` lines at once, at least 1, and one every `interval` after that.
    #[must_use]
    pub const fn with_rate(burst: u32, interval: Duration) -> Self {
        let bucket = Bucket { spent: 0, regained: None, suppressed: 0 };
        Self { rate: Rate { burst, interval }, bucket: Mutex::new(bucket) }
    }

    /// Returns a permit if a line may be logged now; otherwise counts it as suppressed.
    pub fn permit(&self) -> Option<LogPermit> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.permit(self.rate, Instant::now())
    }
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self::new()
    }
}

impl PeerLogThrottle {
    /// Creates a throttle of 5 lines at once for each peer, and one every 10 s after that; of all peers together 100
    /// and one every 0.5 s.
    #[must_use]
    pub fn new() -> Self {
        Self::with_rate(BURST, INTERVAL)
    }

    /// Creates a throttle of `burst` lines at once for each peer, at least 1, and one every `interval` after that; of
    /// all peers together 20 times as much.
    #[must_use]
    pub fn with_rate(burst: u32, interval: Duration) -> Self {
        Self { rate: Rate { burst, interval }, peers: Mutex::default() }
    }

    /// Returns a permit if a line about `peer` may be logged now; otherwise counts it as suppressed.
    pub fn permit(&self, peer: PeerKey) -> Option<LogPermit> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.permit(peer, self.rate, Instant::now())
    }
}

impl Default for PeerLogThrottle {
    fn default() -> Self {
        Self::new()
    }
}

impl Bucket {
    fn permit(&mut self, rate: Rate, now: Instant) -> Option<LogPermit> {
        self.regain(rate, now);
        if self.spent >= rate.burst.max(1) {
            self.suppressed += 1;
            return None;
        }
        self.spent += 1;
        self.regained.get_or_insert_with(|| far(now, rate.interval));
        let suppressed = std::mem::take(&mut self.suppressed);
        Some(LogPermit { suppressed: (suppressed > 0).then_some(suppressed) })
    }

    /// Gives back the lines whose intervals have passed.
    fn regain(&mut self, rate: Rate, now: Instant) {
        while let Some(at) = self.regained.filter(|at| *at <= now) {
            self.spent = self.spent.saturating_sub(1);
            self.regained = (self.spent > 0).then(|| far(at, rate.interval));
        }
    }

    /// Returns `true` if all lines may pass again.
    fn is_idle(&mut self, rate: Rate, now: Instant) -> bool {
        self.regain(rate, now);
        self.spent == 0
    }
}

impl Peers {
    fn permit(&mut self, peer: PeerKey, rate: Rate, now: Instant) -> Option<LogPermit> {
        let is_full = self.buckets.len() >= MAX_PEERS && !self.buckets.contains_key(&peer);
        // Not for each line: looking through all peers costs more than a line.
        if is_full && self.swept.is_none_or(|swept| now >= swept + SWEEP_INTERVAL) {
            self.swept = Some(now);
            self.buckets.retain(|_, bucket| !bucket.is_idle(rate, now));
        }
        let is_known = self.buckets.len() < MAX_PEERS || self.buckets.contains_key(&peer);
        let bucket = if is_known { self.buckets.entry(peer).or_default() } else { &mut self.others };
        let permit = bucket.permit(rate, now)?;
        let in_all = Rate {
            burst: rate.burst.max(1).saturating_mul(PEERS_IN_ALL),
            interval: rate.interval / PEERS_IN_ALL,
        };
        match self.all.permit(in_all, now) {
            Some(_) => Some(permit),
            None => {
                bucket.suppressed += 1 + permit.suppressed.unwrap_or_default();
                None
            }
        }
    }
}

/// Returns `from + time`, or a time that is far away if there is no such time. Never `from`, so that loops end.
fn far(from: Instant, time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    from + time.clamp(Duration::from_nanos(1), FAR)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr, SocketAddr};

    use tokio::time::advance;

    use super::*;
    use crate::peer::PeerAddress;

    fn key(ip: impl Into<IpAddr>) -> PeerKey {
        PeerAddress::Tcp(SocketAddr::new(ip.into(), 7)).key()
    }

    fn memory() -> PeerKey {
        PeerAddress::Memory.key()
    }

    fn passed(throttle: &LogThrottle, lines: u32) -> usize {
        (0..lines).filter(|_| throttle.permit().is_some()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_lines_pass_at_once_and_then_one_per_interval() {
        let throttle = LogThrottle::with_rate(3, Duration::from_secs(10));
        assert_eq!(passed(&throttle, 100), 3);
        advance(Duration::from_millis(9_999)).await;
        assert_eq!(passed(&throttle, 100), 0);
        advance(Duration::from_millis(1)).await;
        assert_eq!(throttle.permit(), Some(LogPermit { suppressed: Some(197) }));
        assert_eq!(passed(&throttle, 100), 0);
        advance(Duration::from_secs(20)).await;
        assert_eq!(passed(&throttle, 100), 2);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(passed(&throttle, 100), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn first_line_has_no_count() {
        assert_eq!(LogThrottle::new().permit(), Some(LogPermit { suppressed: None }));
    }

    #[tokio::test(start_paused = true)]
    async fn extreme_rates_are_taken() {
        assert_eq!(passed(&LogThrottle::with_rate(0, Duration::MAX), 10), 1);
        assert_eq!(passed(&LogThrottle::with_rate(u32::MAX, Duration::ZERO), 10), 10);
        let peers = PeerLogThrottle::with_rate(u32::MAX, Duration::ZERO);
        assert!(peers.permit(memory()).is_some());
        let peers = PeerLogThrottle::with_rate(0, Duration::MAX);
        assert!(peers.permit(memory()).is_some() && peers.permit(memory()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_floods_hides_no_other() {
        let throttle = PeerLogThrottle::new();
        let [loud, quiet] = [1, 2].map(|n| key([10, 0, 0, n]));
        let passed = (0..1000).filter(|_| throttle.permit(loud).is_some()).count();
        assert_eq!(passed, 5);
        assert!(throttle.permit(quiet).is_some() && throttle.permit(memory()).is_some());
        advance(INTERVAL).await;
        assert_eq!(throttle.permit(loud), Some(LogPermit { suppressed: Some(995) }));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_network_are_one_peer() {
        let throttle = PeerLogThrottle::new();
        let address = |n: u16| key(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
        assert_eq!((0..1000).filter(|n| throttle.permit(address(*n)).is_some()).count(), 5);
        let mapped = |text: &str| throttle.permit(key(text.parse::<IpAddr>().unwrap())).is_some();
        assert!(mapped("::ffff:10.0.0.1") && mapped("::ffff:10.0.0.2"));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_and_memory_of_all_peers_are_bounded() {
        let throttle = PeerLogThrottle::new();
        let peers = (0..20_000_u32).map(|n| key(n.to_be_bytes()));
        assert_eq!(peers.filter(|peer| throttle.permit(*peer).is_some()).count(), 100);
        assert!(throttle.peers.lock().unwrap().buckets.len() <= MAX_PEERS);
        // Another hour has the peers of another hour.
        advance(Duration::from_secs(3600)).await;
        assert!(throttle.permit(key([10, 0, 0, 1])).is_some());
    }
}
