//! How long to wait before a server that could not be reached is dialed again.

use std::time::Duration;

/// The first delay.
const BASE: Duration = Duration::from_secs(1);
/// What each further failure multiplies it by.
const FACTOR: f64 = 1.6;
/// The longest delay, jitter aside.
const MOST: Duration = Duration::from_secs(120);
/// A delay is spread by so much in either direction, so that clients that lost a server together
/// do not come back together.
const JITTER: f64 = 0.2;

/// Counts failures in a row. The times are those of gRPC's connection backoff protocol.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked: the next failure is the first again.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait before the next try.
    pub(crate) fn failed(&mut self) -> Duration {
        let delay = self.delay();
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
    }

    fn delay(&self) -> Duration {
        // 1.6^11 is past the longest delay already; larger exponents only lose precision.
        let factor = FACTOR.powi(self.failures.min(20) as i32);
        BASE.mul_f64(factor).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_two_minutes_and_stay_there() {
        let mut backoff = Backoff::default();
        let mut expected = BASE;
        for _ in 0..100 {
            let delay = backoff.failed();
            let (least, most) = (expected.mul_f64(1.0 - JITTER), expected.mul_f64(1.0 + JITTER + 1e-9));
            assert!((least..=most).contains(&delay), "{delay:?} is not {expected:?}, give or take 20%");
            expected = expected.mul_f64(FACTOR).min(MOST);
        }
        assert_eq!(expected, MOST);
        backoff.reset();
        assert!(backoff.failed() <= BASE.mul_f64(1.0 + JITTER));
    }
}
