//! Arithmetic on deadlines and limits that cannot overflow. Reading the clock is left to the caller.

use std::ops::Add;
use std::time::Duration;

/// The longest time that is added to an instant: 30 years. Clocks of some systems overflow soon after.
pub const MAX_WAIT: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Returns the instant `by` after `at`, at most [`MAX_WAIT`] later, so that [`Duration::MAX`] does not overflow.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use farcall_protocol::time::later;
///
/// let now = Instant::now();
/// assert_eq!(later(now, Duration::from_secs(1)), now + Duration::from_secs(1));
/// assert!(later(now, Duration::MAX) > now);
/// ```
#[inline]
#[must_use]
pub fn later<I: Add<Duration, Output = I>>(at: I, by: Duration) -> I {
    at + if by < MAX_WAIT { by } else { MAX_WAIT }
}

/// Returns the sooner of two optional deadlines; `one` if they are equal, `None` if there is neither.
///
/// ```
/// use farcall_protocol::time::sooner;
///
/// assert_eq!(sooner(Some(2), Some(1)), Some(1));
/// assert_eq!(sooner(None, Some(1)), Some(1));
/// assert_eq!(sooner::<u8>(None, None), None);
/// ```
#[inline]
#[must_use]
pub fn sooner<T: PartialOrd>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other < one { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Returns whole milliseconds, rounded down; `u64::MAX` if there are more.
#[inline]
#[must_use]
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns whole milliseconds, rounded up, so that only zero becomes 0, which means "no limit" on the wire;
/// `u64::MAX` if there are more.
#[inline]
#[must_use]
pub fn millis_rounded_up(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn later_never_overflows() {
        let now = Instant::now();
        assert_eq!(later(now, Duration::MAX), now + MAX_WAIT);
        assert_eq!(later(now, Duration::ZERO), now);
    }

    #[test]
    fn sooner_prefers_the_first_of_equals() {
        #[derive(Debug)]
        struct Limit(u8, &'static str);
        impl PartialEq for Limit {
            fn eq(&self, other: &Self) -> bool {
                self.0 == other.0
            }
        }
        impl PartialOrd for Limit {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                self.0.partial_cmp(&other.0)
            }
        }
        assert_eq!(sooner(Some(Limit(1, "one")), Some(Limit(1, "other"))).map(|limit| limit.1), Some("one"));
        assert_eq!(sooner(Some(3), Some(2)), Some(2));
        assert_eq!(sooner(Some(3), None), Some(3));
    }

    #[test]
    fn milliseconds_are_rounded_and_saturate() {
        for (micros, down, up) in [(0, 0, 0), (1, 0, 1), (1000, 1, 1), (1001, 1, 2), (500_000, 500, 500)] {
            let time = Duration::from_micros(micros);
            assert_eq!((millis(time), millis_rounded_up(time)), (down, up));
        }
        assert_eq!((millis(Duration::MAX), millis_rounded_up(Duration::MAX)), (u64::MAX, u64::MAX));
    }
}
