//! [`Stats`]: counters of one method, and a histogram of its latencies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use farcall_protocol::Code;
use farcall_protocol::describe::MethodStats;

use crate::observe::items::{ItemTotals, MethodItems};
use crate::observe::metrics::MethodMetrics;

/// Buckets of one power of two: a bucket is at most 1/32 = 3% wide.
const STEPS: u64 = 32;
const STEPS_BITS: u32 = STEPS.trailing_zeros();
/// Latencies over 2^32 us (71 minutes) fall in the last bucket; the maximum is exact.
const MAX_LATENCY_BITS: u32 = 32;
const BUCKETS: usize = ((MAX_LATENCY_BITS - STEPS_BITS + 1) as usize) << STEPS_BITS;

/// The counters of one method. Many connections write them concurrently, so all are atomic.
#[derive(Debug)]
pub(crate) struct Stats {
    /// Calls that were started. Those that ended are in `buckets`; the others are in flight.
    started: AtomicU64,
    /// By code, in the order of [`Code::ALL`].
    errors: [AtomicU64; Code::ALL.len()],
    max_us: AtomicU64,
    /// Counts by latency, log-linear as in HdrHistogram: 32 steps to each power of two.
    buckets: Box<[AtomicU64]>,
    /// The items of calls that stream.
    pub(crate) items: Arc<MethodItems>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            started: AtomicU64::new(0),
            errors: Default::default(),
            max_us: AtomicU64::new(0),
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            items: Arc::default(),
        }
    }
}

impl Stats {
    /// Counts a call that starts.
    pub(crate) fn started(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    /// Returns the number of calls that were started.
    pub(crate) fn calls(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// Counts a call that has ended.
    pub(crate) fn ended(&self, latency: Duration, error: Option<Code>) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(us)].fetch_add(1, Relaxed);
        // Loaded first: a store that is not needed would take the cache line from other cores.
        if us > self.max_us.load(Relaxed) {
            self.max_us.fetch_max(us, Relaxed);
        }
        if let Some(code) = error {
            self.errors_of(code).fetch_add(1, Relaxed);
        }
    }

    /// Returns the statistics that `farcall.stats` answers.
    pub(crate) fn snapshot(&self, name: &str) -> MethodStats {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let calls = counts.iter().sum();
        let max_us = self.max_us.load(Relaxed);
        let percentile = |percent| percentile(&counts, calls, percent).min(max_us);
        let mut stats = MethodStats::default();
        stats.name = name.to_owned();
        stats.calls = calls;
        stats.errors = self.errors.iter().map(|count| count.load(Relaxed)).sum();
        stats.in_flight = self.in_flight(calls);
        stats.p50_us = percentile(50);
        stats.p90_us = percentile(90);
        stats.p99_us = percentile(99);
        stats.max_us = max_us;
        ItemTotals { sent: stats.items_sent, received: stats.items_received } = self.items.totals();
        stats
    }

    /// Returns all counts, to be added up over servers.
    pub(crate) fn metrics(&self, name: &str) -> MethodMetrics {
        let counted = |count: &AtomicU64| Some(count.load(Relaxed)).filter(|&count| count > 0);
        let errors = Code::ALL.iter().filter_map(|&code| Some((code, counted(self.errors_of(code))?)));
        let buckets = self.buckets.iter().enumerate();
        let latencies: Vec<_> =
            buckets.filter_map(|(index, count)| Some((upper_end(index), counted(count)?))).collect();
        MethodMetrics {
            name: name.to_owned(),
            in_flight: self.in_flight(latencies.iter().map(|(_, calls)| calls).sum()),
            errors: errors.collect(),
            latencies,
        }
    }

    /// Returns the number of calls in flight if `ended` have ended. It is no separate counter, which each
    /// call would write twice; a call that starts or ends while the counts are read may be missed.
    fn in_flight(&self, ended: u64) -> u64 {
        self.calls().saturating_sub(ended)
    }

    fn errors_of(&self, code: Code) -> &AtomicU64 {
        // The numbers of codes start at 1, and have no gaps.
        &self.errors[usize::from(code.number() - 1)]
    }
}

/// Returns the index of the bucket of a latency.
fn bucket(us: u64) -> usize {
    let us = us.min((1 << MAX_LATENCY_BITS) - 1);
    if us < STEPS {
        return us as usize;
    }
    let shift = us.ilog2() - STEPS_BITS;
    let step = us >> shift; // STEPS <= step < 2 * STEPS
    (u64::from(shift) * STEPS + step) as usize
}

/// Returns the largest latency of a bucket, in microseconds.
fn upper_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let step = STEPS + bucket % STEPS;
    ((step + 1) << shift) - 1
}

/// Returns the latency that `percent` of the calls stay within, in microseconds.
fn percentile(counts: &[u64], calls: u64, percent: u64) -> u64 {
    let rank = (calls * percent).div_ceil(100).max(1);
    let mut seen = 0;
    for (index, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= rank {
            return upper_end(index);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_at_most_three_percent_wide() {
        for us in (0..100_000).chain([1 << 20, (1 << 31) + 12_345, (1 << 32) - 1]) {
            let end = upper_end(bucket(us));
            assert!(end >= us && end - us <= us / 32, "{us} is in the bucket that ends at {end}");
        }
    }

    #[test]
    fn percentiles_match_the_calls() {
        let stats = Stats::default();
        for us in 1..=1000 {
            stats.started();
            stats.ended(Duration::from_micros(us), (us > 990).then_some(Code::Internal));
        }
        let snapshot = stats.snapshot("Arith.multiply");
        assert_eq!((snapshot.calls, snapshot.errors, snapshot.in_flight), (1000, 10, 0));
        assert!((500..=516).contains(&snapshot.p50_us), "{snapshot:?}");
        assert!((900..=928).contains(&snapshot.p90_us), "{snapshot:?}");
        assert_eq!(snapshot.max_us, 1000);
    }

    #[test]
    fn each_code_is_counted_separately() {
        let stats = Stats::default();
        for (calls, code) in (1..).zip(Code::ALL) {
            for _ in 0..calls {
                stats.started();
                stats.ended(Duration::from_micros(1), Some(code));
            }
        }
        let expected: Vec<_> = Code::ALL.into_iter().zip(1..).collect();
        assert_eq!(stats.metrics("m").errors, expected);
        assert_eq!(stats.snapshot("m").errors, 55);
    }

    #[test]
    fn calls_are_in_flight_from_start_to_end() {
        let stats = Stats::default();
        let in_flight = || (stats.snapshot("m").in_flight, stats.metrics("m").in_flight);
        stats.started();
        stats.started();
        assert_eq!(in_flight(), (2, 2));
        stats.ended(Duration::from_micros(7), None);
        assert_eq!(in_flight(), (1, 1));
        stats.ended(Duration::from_secs(7), Some(Code::Cancelled));
        assert_eq!(in_flight(), (0, 0));
    }

    #[test]
    fn method_without_calls_has_zeros() {
        let mut zeros = MethodStats::default();
        zeros.name = "m".to_owned();
        assert_eq!(Stats::default().snapshot("m"), zeros);
    }

    #[test]
    fn longest_latency_falls_in_the_last_bucket() {
        let stats = Stats::default();
        stats.started();
        stats.ended(Duration::MAX, None);
        assert_eq!(stats.snapshot("m").max_us, u64::MAX);
    }
}
