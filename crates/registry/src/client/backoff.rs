//! [`Backoff`]: how long to wait after the last of several failures.

use std::time::Duration;

/// The first and the longest pause, if nothing else is set.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Pauses that double, with jitter, so that clients that lost the registry together come back apart.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), failures: 0 }
    }

    /// The pause after one more failure: half of it is sure, half is left to chance.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures += u32::from(self.failures < u32::MAX);
        pause.mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        for full in [1, 2, 4, 8, 15, 15, 15] {
            let pause = backoff.next().as_secs_f64();
            assert!((f64::from(full) / 2.0..=f64::from(full)).contains(&pause), "{pause} of {full}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST_PAUSE);
    }
}
