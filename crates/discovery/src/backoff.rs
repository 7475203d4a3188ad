//! [`Backoff`]: the pauses between attempts that fail. Sleeping, and deciding what a failure is, is left
//! to the caller.

use std::time::Duration;

/// The pauses between attempts that fail in a row: each is longer than the last, up to a maximum, and
/// spread at random so that clients which lost a server together do not return together.
///
/// It has no clock and never overflows, whatever its settings.
///
/// ```
/// use std::time::Duration;
///
/// use farcall_discovery::{Backoff, Jitter};
///
/// let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15)).jitter(Jitter::Equal);
/// let first = backoff.next_pause();
/// assert!(first >= Duration::from_millis(500) && first <= Duration::from_secs(1));
/// assert!(backoff.next_pause() >= Duration::from_secs(1)); // a half of 2 s, at least
///
/// backoff.reset(); // an attempt succeeded
/// assert!(backoff.next_pause() <= Duration::from_secs(1));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Backoff {
    first: Duration,
    factor: f64,
    max: Duration,
    jitter: Jitter,
    /// The next pause, before jitter and `max`.
    next: Duration,
    failures: u32,
}

/// The random spread of a [`Backoff`]'s pauses.
///
/// The first two are those of Marc Brooker, [Exponential Backoff And Jitter][source] (AWS Architecture
/// Blog, 2015); the third is that of gRPC's connection backoff protocol.
///
/// [source]: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Jitter {
    /// Pauses between zero and the whole: attempts of many clients spread best.
    #[default]
    Full,
    /// Pauses between a half and the whole, for loops that should never retry at once.
    Equal,
    /// Pauses that differ from the whole by at most this fraction in both directions. Values outside 0
    /// to 1 are clamped.
    Around(f64),
}

impl Backoff {
    /// Creates pauses that double from `first` up to `max`, with [`Jitter::Full`].
    ///
    /// If `max` is the shorter one, all pauses are `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, factor: 2.0, max, jitter: Jitter::Full, next: first, failures: 0 }
    }

    /// Sets what each failure multiplies the pause by; 2 by default. Values below 1 count as 1.
    pub const fn factor(mut self, factor: f64) -> Self {
        // A comparison is false for NaN.
        self.factor = if factor >= 1.0 { factor } else { 1.0 };
        self
    }

    /// Sets how pauses are spread; [`Jitter::Full`] by default.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Counts a failure and returns how long to wait before the next attempt.
    pub fn next_pause(&mut self) -> Duration {
        self.next_pause_within(Duration::MAX)
    }

    /// As [`Backoff::next_pause`], with another maximum for this pause if `limit` is the shorter one.
    pub fn next_pause_within(&mut self, limit: Duration) -> Duration {
        let whole = self.next.min(self.max).min(limit);
        // It stops growing at the maximum: what is beyond would only lose precision.
        if self.next < self.max {
            self.next = scale(self.next, self.factor);
        }
        self.failures = self.failures.saturating_add(1);
        self.jitter.spread(whole, fastrand::f64())
    }

    /// Notes that an attempt succeeded: the next pause is the first one again.
    pub const fn reset(&mut self) {
        self.next = self.first;
        self.failures = 0;
    }

    /// Returns the number of failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

impl Jitter {
    /// Spreads `whole` by `random`, a number from 0 to 1.
    fn spread(self, whole: Duration, random: f64) -> Duration {
        match self {
            Self::Full => scale(whole, random),
            Self::Equal => scale(whole, 0.5 + 0.5 * random),
            Self::Around(fraction) => {
                // The comparison is false for NaN.
                let fraction = if fraction >= 0.0 { fraction.min(1.0) } else { 0.0 };
                scale(whole, 1.0 - fraction + 2.0 * fraction * random)
            }
        }
    }
}

/// Multiplies without overflow; `factor` is not negative.
fn scale(pause: Duration, factor: f64) -> Duration {
    // It fails only for what is too large, and for zero times infinity.
    let scaled = Duration::try_from_secs_f64(pause.as_secs_f64() * factor);
    scaled.unwrap_or(if pause.is_zero() { Duration::ZERO } else { Duration::MAX })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(SECOND, 15 * SECOND).jitter(Jitter::Around(0.0));
        let pauses: Vec<_> = (0..7).map(|_| backoff.next_pause().as_secs()).collect();
        assert_eq!((pauses, backoff.failures()), (vec![1, 2, 4, 8, 15, 15, 15], 7));
        backoff.reset();
        assert_eq!((backoff.failures(), backoff.next_pause()), (0, SECOND));
    }

    #[test]
    fn pauses_with_grpcs_settings_are_those_of_its_protocol() {
        let mut backoff = Backoff::new(SECOND, 120 * SECOND).factor(1.6).jitter(Jitter::Around(0.2));
        let mut expected = 1.0_f64;
        for _ in 0..100 {
            let pause = backoff.next_pause().as_secs_f64();
            assert!(
                (expected * 0.8 - 1e-6..=expected * 1.2 + 1e-6).contains(&pause),
                "{pause} of {expected}"
            );
            expected = (expected * 1.6).min(120.0);
        }
    }

    #[test]
    fn jitter_spreads_between_its_bounds() {
        for (jitter, low, high) in
            [(Jitter::Full, 0, 1000), (Jitter::Equal, 500, 1000), (Jitter::Around(0.2), 800, 1200)]
        {
            assert_eq!(jitter.spread(SECOND, 0.0), Duration::from_millis(low), "{jitter:?}");
            assert_eq!(jitter.spread(SECOND, 1.0), Duration::from_millis(high), "{jitter:?}");
        }
    }

    #[test]
    fn one_pause_can_have_a_lower_maximum() {
        let mut backoff = Backoff::new(4 * SECOND, 15 * SECOND).jitter(Jitter::Around(0.0));
        assert_eq!(backoff.next_pause_within(SECOND), SECOND);
        assert_eq!(backoff.next_pause(), 8 * SECOND, "growth does not depend on the limit");
    }

    #[test]
    fn maximum_below_the_first_pause_bounds_it() {
        let mut backoff = Backoff::new(2 * SECOND, SECOND).jitter(Jitter::Around(0.0));
        assert_eq!((backoff.next_pause(), backoff.next_pause()), (SECOND, SECOND));
    }

    proptest! {
        #[test]
        fn no_settings_overflow(
            first in any::<Duration>(), max in any::<Duration>(), factor in any::<f64>(), fraction in any::<f64>(),
            kind in 0..3,
        ) {
            let jitter = [Jitter::Full, Jitter::Equal, Jitter::Around(fraction)][kind as usize];
            let mut backoff = Backoff::new(first, max).factor(factor).jitter(jitter);
            for _ in 0..200 {
                let pause = backoff.next_pause();
                prop_assert!(matches!(jitter, Jitter::Around(_)) || pause <= max.saturating_add(SECOND));
            }
            backoff.failures = u32::MAX;
            backoff.next_pause();
        }
    }
}
