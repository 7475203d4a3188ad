//! When the time of a call, or of a step of it, is up: a moment, and the limit that set it.

use std::time::Duration;

use tokio::time::Instant;

/// The least that must be left for a request to be worth sending.
const LEAST: Duration = Duration::from_millis(1);

/// What stands for "never": the clock of some systems ends not long after.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A moment, and how far off it was when it was set, which errors name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) limit: Duration,
}

impl Deadline {
    pub(crate) fn after(now: Instant, limit: Duration) -> Self {
        Self { at: later(now, limit), limit }
    }

    /// One that was set elsewhere: its limit is what is left of it.
    pub(crate) fn at(at: Instant, now: Instant) -> Self {
        Self { at, limit: at.saturating_duration_since(now) }
    }

    /// The one of both that is first.
    pub(crate) fn first(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(if other.at < one.at { other } else { one }),
            (one, other) => one.or(other),
        }
    }

    /// Whether so little is left that nothing is sent any more: less than a millisecond.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.at.saturating_duration_since(now) < LEAST
    }

    /// What is left in whole milliseconds, rounded up, so that it never becomes 0, which would
    /// mean no limit.
    pub(crate) fn millis_left(&self, now: Instant) -> u64 {
        let left = self.at.saturating_duration_since(now);
        u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
    }
}

/// `now` and so much later, for limits of any length: a clock that overflows panics.
pub(crate) fn later(now: Instant, by: Duration) -> Instant {
    now + by.min(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_rounded_up_and_never_zero() {
        let now = Instant::now();
        for (micros, millis) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (500_000, 500)] {
            assert_eq!(Deadline::after(now, Duration::from_micros(micros)).millis_left(now), millis);
        }
    }

    #[test]
    fn less_than_a_millisecond_is_nothing() {
        let now = Instant::now();
        assert!(Deadline::after(now, Duration::from_micros(999)).is_over(now));
        assert!(!Deadline::after(now, Duration::from_millis(1)).is_over(now));
    }

    #[test]
    fn a_limit_without_end_is_no_overflow() {
        assert!(later(Instant::now(), Duration::MAX) > Instant::now());
    }

    #[test]
    fn the_first_of_two_deadlines_counts() {
        let now = Instant::now();
        let [soon, late] = [1, 2].map(|s| Some(Deadline::after(now, Duration::from_secs(s))));
        assert_eq!(Deadline::first(soon, late), soon);
        assert_eq!(Deadline::first(late, soon), soon);
        assert_eq!(Deadline::first(None, late), late);
        assert_eq!(Deadline::first(None, None), None);
    }
}
