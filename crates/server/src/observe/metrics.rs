//! [`MethodMetrics`], a method's figures in a form that can be added up over servers.

use std::time::Duration;

use farcall_protocol::Code;

/// Figures of one method since the server's start, for a monitoring system: counts alone, which can
/// be added up over servers and subtracted over time, as percentiles cannot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MethodMetrics {
    /// The full name, such as `Arith.multiply`.
    pub name: String,
    /// Calls under way.
    pub in_flight: u64,
    /// Calls that ended in an error, by its code; codes that never occurred are left out.
    pub errors: Vec<(Code, u64)>,
    /// Latencies in microseconds, at most 3% too high, and how many calls had each; the lowest first.
    pub(crate) latencies: Vec<(u64, u64)>,
}

impl MethodMetrics {
    /// Calls that have ended, those that failed among them.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.latencies.iter().map(|(_, calls)| calls).sum()
    }

    /// Calls that ended within this time of their request's arrival. One that took at most 3% less
    /// may be left out.
    #[must_use]
    pub fn calls_within(&self, limit: Duration) -> u64 {
        let limit = limit.as_micros();
        let within = self.latencies.iter().take_while(|(us, _)| u128::from(*us) <= limit);
        within.map(|(_, calls)| calls).sum()
    }

    /// What has been counted since `before`, of the same method.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            name: self.name.clone(),
            in_flight: self.in_flight,
            errors: less(&self.errors, &before.errors),
            latencies: less(&self.latencies, &before.latencies),
        }
    }

    /// The latency that so many in a hundred stay within, in microseconds; zero without calls.
    pub(crate) fn percentile_us(&self, percent: u64) -> u64 {
        let rank = (self.calls() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let within = self.latencies.iter().find(|(_, calls)| {
            seen += calls;
            seen >= rank
        });
        within.map_or(0, |&(us, _)| us)
    }

    /// The latencies of all calls that ended, added up; at most 3% too high. Calls of over 71 minutes
    /// count as such.
    #[must_use]
    pub fn total_latency(&self) -> Duration {
        let us = self.latencies.iter().map(|&(us, calls)| u128::from(us) * u128::from(calls)).sum::<u128>();
        Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }
}

/// Counts less those from before. Both are in order, and what was counted once stays in the list.
fn less<K: Copy + PartialEq>(now: &[(K, u64)], before: &[(K, u64)]) -> Vec<(K, u64)> {
    let mut before = before.iter().peekable();
    let left = now.iter().filter_map(|&(key, count)| {
        let known = before.next_if(|(known, _)| *known == key).map_or(0, |&(_, count)| count);
        // What was counted between the looks at two counts can be missing in one of them.
        Some((key, count.saturating_sub(known))).filter(|&(_, count)| count > 0)
    });
    left.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::stats::Stats;

    #[test]
    fn calls_and_latencies_are_counted_up_to_a_limit() {
        let stats = Stats::default();
        for us in 1..=1000 {
            stats.started();
            stats.ended(Duration::from_micros(us), None);
        }
        let figures = stats.figures("Arith.multiply");
        assert_eq!((figures.calls(), figures.in_flight), (1000, 0));
        assert_eq!(figures.calls_within(Duration::from_micros(10)), 10);
        let half = figures.calls_within(Duration::from_micros(500));
        assert!((485..=500).contains(&half), "{half}");
        assert_eq!(figures.calls_within(Duration::from_secs(1)), 1000);
        let total = figures.total_latency().as_micros();
        assert!((500_500..=515_600).contains(&total), "{total}");
    }
}
