//! [`MethodMetrics`]: a method's statistics in a form that can be added up over servers.

use std::time::Duration;

use farcall_protocol::Code;

/// Metrics of one method since the server's start, for a monitoring system: counts alone, which can be
/// added up over servers and subtracted over time, as percentiles cannot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MethodMetrics {
    /// The full name, such as `Arith.multiply`.
    pub name: String,
    /// Calls in flight.
    pub in_flight: u64,
    /// Calls that ended in an error, by its code; codes that never occurred are left out.
    pub errors: Vec<(Code, u64)>,
    /// Latencies in microseconds, at most 3% too high, with the number of calls that had each; the lowest
    /// first.
    pub(crate) latencies: Vec<(u64, u64)>,
}

impl MethodMetrics {
    /// Returns the number of calls that have ended, including failed ones.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.latencies.iter().map(|(_, calls)| calls).sum()
    }

    /// Returns the number of calls that ended within this time of their request's arrival. Calls that
    /// took at most 3% less may be left out.
    #[must_use]
    pub fn calls_within(&self, limit: Duration) -> u64 {
        let limit = limit.as_micros();
        let within = self.latencies.iter().take_while(|(us, _)| u128::from(*us) <= limit);
        within.map(|(_, calls)| calls).sum()
    }

    /// Returns the counts since `before`, of the same method.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            name: self.name.clone(),
            in_flight: self.in_flight,
            errors: difference(&self.errors, &before.errors),
            latencies: difference(&self.latencies, &before.latencies),
        }
    }

    /// Returns the latency that `percent` of the calls stay within, in microseconds; zero without calls.
    pub(crate) fn percentile_us(&self, percent: u64) -> u64 {
        let rank = (self.calls() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let within = self.latencies.iter().find(|(_, calls)| {
            seen += calls;
            seen >= rank
        });
        within.map_or(0, |&(us, _)| us)
    }

    /// Returns the sum of the latencies of all calls that have ended, at most 3% too high. Calls of over
    /// 71 minutes count as 71 minutes.
    #[must_use]
    pub fn total_latency(&self) -> Duration {
        let us = self.latencies.iter().map(|&(us, calls)| u128::from(us) * u128::from(calls)).sum::<u128>();
        Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }
}

/// Subtracts earlier counts from later ones. Both are in order, and a key that was counted once stays in
/// the list.
fn difference<K: Copy + PartialEq>(now: &[(K, u64)], before: &[(K, u64)]) -> Vec<(K, u64)> {
    let mut before = before.iter().peekable();
    let left = now.iter().filter_map(|&(key, count)| {
        let earlier = before.next_if(|(earlier, _)| *earlier == key).map_or(0, |&(_, count)| count);
        // A call that ended while the counts were read can be missing in some of them.
        Some((key, count.saturating_sub(earlier))).filter(|&(_, count)| count > 0)
    });
    left.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::stats::Stats;

    #[test]
    fn calls_are_counted_up_to_a_latency() {
        let stats = Stats::default();
        for us in 1..=1000 {
            stats.started();
            stats.ended(Duration::from_micros(us), None);
        }
        let metrics = stats.metrics("Arith.multiply");
        assert_eq!((metrics.calls(), metrics.in_flight), (1000, 0));
        assert_eq!(metrics.calls_within(Duration::from_micros(10)), 10);
        let half = metrics.calls_within(Duration::from_micros(500));
        assert!((485..=500).contains(&half), "{half}");
        assert_eq!(metrics.calls_within(Duration::from_secs(1)), 1000);
        let total = metrics.total_latency().as_micros();
        assert!((500_500..=515_600).contains(&total), "{total}");
    }
}
