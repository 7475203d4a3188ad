//! [`Totals`]: what the calls of a channel have counted since it was built.
//!
//! Counters that only failures touch are here once. The latency of answers, which every call records, is spread over
//! shards, so that calls of different endpoints do not contend. What of it is shown, and how, is left to
//! [`ChannelMetrics`](crate::ChannelMetrics).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use farcall_protocol::Code;
use farcall_runtime::time::Instant;

/// Buckets of a latency histogram with an upper end: from [`FIRST_BUCKET_US`] to half a minute, each twice the last.
pub(crate) const FINITE_BUCKETS: usize = 22;
/// The upper end of the first bucket in microseconds: a call over a Unix socket takes about as long.
const FIRST_BUCKET_US: u64 = 16;
/// Latency shards of a channel. With more endpoints than that, some share one.
const SHARDS: usize = 16;

/// The counters of a channel.
#[derive(Debug)]
pub(crate) struct Totals {
    /// Attempts after a call's first: retries and hedged requests.
    retries: AtomicU64,
    /// Attempts of broadcasts after the first endpoint.
    further_endpoints: AtomicU64,
    ejections: AtomicU64,
    /// Attempts that failed, by the number of their code.
    errors: [AtomicU64; Code::ALL.len()],
    /// `true` if the latency of a channel's only endpoint is measured. With several endpoints it always is.
    times_only_endpoint: AtomicBool,
    /// Each is allocated for the first endpoint that counts in it.
    latency: [OnceLock<Arc<LatencyShard>>; SHARDS],
}

/// The latencies of some answers.
#[derive(Debug, Default)]
// Aligned, so that shards share no cache line (two, since they are fetched in pairs).
#[repr(align(128))]
pub(crate) struct LatencyShard {
    /// The last bucket has no upper end.
    buckets: [AtomicU64; FINITE_BUCKETS + 1],
    total_ns: AtomicU64,
}

/// Measures one attempt at a channel's only endpoint.
#[derive(Debug)]
pub(crate) struct LatencyTimer {
    shard: Arc<LatencyShard>,
    started_at: Instant,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            retries: AtomicU64::new(0),
            further_endpoints: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            errors: std::array::from_fn(|_| AtomicU64::new(0)),
            times_only_endpoint: AtomicBool::new(false),
            latency: std::array::from_fn(|_| OnceLock::new()),
        }
    }
}

impl Totals {
    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the endpoints of a broadcast, of which the first counts as the call itself.
    pub(crate) fn count_broadcast(&self, endpoints: usize) {
        self.further_endpoints.fetch_add(endpoints.saturating_sub(1) as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_ejection(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an attempt that failed.
    pub(crate) fn count_error(&self, code: Code) {
        if let Some(errors) = self.errors.get(usize::from(code.number()) - 1) {
            errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(crate) fn further_endpoints(&self) -> u64 {
        self.further_endpoints.load(Ordering::Relaxed)
    }

    pub(crate) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Returns the number of failed attempts with each code that occurred.
    pub(crate) fn errors(&self) -> Vec<(Code, u64)> {
        let counts = self.errors.iter().map(|errors| errors.load(Ordering::Relaxed));
        Code::ALL.into_iter().zip(counts).filter(|(_, errors)| *errors > 0).collect()
    }

    /// Returns the shard of an endpoint.
    pub(crate) fn latency_shard(&self, endpoint_id: u64) -> &Arc<LatencyShard> {
        self.latency[endpoint_id as usize % SHARDS].get_or_init(Arc::default)
    }

    /// Returns the number of answers in each bucket, and the sum of their latencies.
    pub(crate) fn latency(&self) -> ([u64; FINITE_BUCKETS + 1], Duration) {
        let mut counts = [0; FINITE_BUCKETS + 1];
        let mut total_ns = 0_u64;
        for shard in self.latency.iter().filter_map(OnceLock::get) {
            for (count, bucket) in counts.iter_mut().zip(&shard.buckets) {
                *count += bucket.load(Ordering::Relaxed);
            }
            total_ns = total_ns.wrapping_add(shard.total_ns.load(Ordering::Relaxed));
        }
        (counts, Duration::from_nanos(total_ns))
    }

    /// Measures the latency of a channel's only endpoint from now on.
    pub(crate) fn time_only_endpoint(&self) {
        self.times_only_endpoint.store(true, Ordering::Relaxed);
    }

    /// Starts to measure an attempt at the only endpoint, if that was enabled.
    #[inline]
    pub(crate) fn timer(&self) -> Option<Box<LatencyTimer>> {
        self.times_only_endpoint.load(Ordering::Relaxed).then(|| self.started_timer())
    }

    #[cold]
    fn started_timer(&self) -> Box<LatencyTimer> {
        Box::new(LatencyTimer { shard: Arc::clone(self.latency_shard(0)), started_at: Instant::now() })
    }
}

impl LatencyShard {
    /// Records the latency of one answer.
    #[inline]
    pub(crate) fn record(&self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns / 1000)].fetch_add(1, Ordering::Relaxed);
        self.total_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

impl LatencyTimer {
    pub(crate) fn record(&self) {
        self.shard.record(self.started_at.elapsed());
    }
}

/// Returns the bucket of a latency in microseconds.
fn bucket(us: u64) -> usize {
    let doublings = u64::BITS - (us / FIRST_BUCKET_US).leading_zeros();
    (doublings as usize).min(FINITE_BUCKETS)
}

/// Returns the upper end of a bucket; `None` if it has none.
pub(crate) fn bucket_end(bucket: usize) -> Option<Duration> {
    (bucket < FINITE_BUCKETS).then(|| Duration::from_micros(FIRST_BUCKET_US << bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_counted_below_the_end_of_its_bucket() {
        for us in [0, 1, 15, 16, 17, 31, 32, 999, 1_000_000, 33_554_431, 33_554_432, u64::MAX / 1000] {
            let of = bucket(us);
            let latency = Duration::from_micros(us);
            assert!(bucket_end(of).is_none_or(|end| latency < end), "{us}");
            assert!(of == 0 || bucket_end(of - 1).unwrap() <= latency, "{us}");
        }
    }

    #[test]
    fn shards_add_up() {
        let totals = Totals::default();
        for id in 0..40 {
            totals.latency_shard(id).record(Duration::from_micros(20));
        }
        totals.latency_shard(3).record(Duration::MAX);
        let (counts, _) = totals.latency();
        assert_eq!((counts[1], counts[FINITE_BUCKETS], counts.iter().sum()), (40, 1, 41_u64));
    }

    #[test]
    fn every_code_has_a_counter() {
        let totals = Totals::default();
        Code::ALL.into_iter().for_each(|code| totals.count_error(code));
        assert_eq!(totals.errors(), Code::ALL.map(|code| (code, 1)));
    }
}
