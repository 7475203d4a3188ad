//! Deadlines: a moment, and the time limit that set it.

use std::time::Duration;

use farcall_protocol::time::{later, millis_rounded_up};
use farcall_runtime::time::Instant;

/// The time that must be left for a request to be sent.
const MIN_LEFT: Duration = Duration::from_millis(1);

/// The moment at which the time of a call is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    /// The time that was left when the deadline was set, for errors.
    pub(crate) limit: Duration,
}

impl Deadline {
    /// Creates the deadline `limit` after `now`.
    pub(crate) fn after(now: Instant, limit: Duration) -> Self {
        Self { at: later(now, limit), limit }
    }

    /// Creates a deadline that was set elsewhere: its limit is the time that is left.
    pub(crate) fn at(at: Instant, now: Instant) -> Self {
        Self { at, limit: at.saturating_duration_since(now) }
    }

    /// Returns the earlier of two deadlines.
    pub(crate) fn first(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(if other.at < one.at { other } else { one }),
            (one, other) => one.or(other),
        }
    }

    /// Returns `true` if too little time is left to send a request: less than a millisecond.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.at.saturating_duration_since(now) < MIN_LEFT
    }

    /// Returns the time left in whole milliseconds, rounded up, and at least 1, since 0 would
    /// mean no limit.
    pub(crate) fn millis_left(&self, now: Instant) -> u64 {
        millis_rounded_up(self.at.saturating_duration_since(now)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_rounded_up_and_never_zero() {
        let now = Instant::now();
        for (micros, millis) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (500_000, 500)] {
            assert_eq!(Deadline::after(now, Duration::from_micros(micros)).millis_left(now), millis);
        }
    }

    #[test]
    fn deadline_is_over_with_less_than_a_millisecond_left() {
        let now = Instant::now();
        assert!(Deadline::after(now, Duration::from_micros(999)).is_over(now));
        assert!(!Deadline::after(now, Duration::from_millis(1)).is_over(now));
    }

    #[test]
    fn first_returns_the_earlier_deadline() {
        let now = Instant::now();
        let [soon, late] = [1, 2].map(|s| Some(Deadline::after(now, Duration::from_secs(s))));
        assert_eq!(Deadline::first(soon, late), soon);
        assert_eq!(Deadline::first(late, soon), soon);
        assert_eq!(Deadline::first(None, late), late);
        assert_eq!(Deadline::first(None, None), None);
    }
}
