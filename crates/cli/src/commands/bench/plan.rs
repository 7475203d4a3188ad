//! [`Plan`]: when the calls of a run are due.

use std::time::Duration;

/// The calls of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) pace: Pace,
    pub(super) end: End,
}

/// The rule that decides when a call is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// The time: calls are due at this rate, which grows from zero in the time of the ramp.
    Open {
        /// Calls a second.
        rate: f64,
        /// The time of the ramp.
        ramp: Duration,
    },
    /// The end of the caller's last call.
    Closed(u32),
}

/// The end of a run.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    After(Duration),
    Calls(u64),
}

impl End {
    /// Returns `true` if no further call is due: `number` of them were, which is asked for only if it counts, and the next one
    /// is at `at`.
    pub(super) fn is_reached(self, number: impl FnOnce() -> u64, at: Duration) -> bool {
        match self {
            Self::After(limit) => at >= limit,
            Self::Calls(calls) => number() >= calls,
        }
    }
}

/// Returns when the call of this number is due, from the start of an open loop.
pub(super) fn due(number: u64, rate: f64, ramp: Duration) -> Duration {
    let (number, ramp) = (number as f64, ramp.as_secs_f64());
    // The rate grows linearly, so that the calls of the ramp grow with the square of the time.
    let of_ramp = rate * ramp / 2.0;
    let seconds =
        if number < of_ramp { (2.0 * number * ramp / rate).sqrt() } else { ramp + (number - of_ramp) / rate };
    Duration::from_secs_f64(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_due_at_the_rate_after_the_ramp() {
        let at = |number, ramp| due(number, 1000.0, Duration::from_secs(ramp)).as_secs_f64();
        assert_eq!((at(0, 0), at(1, 0), at(5000, 0)), (0.0, 0.001, 5.0));
        // Half as many calls in the ramp as at the full rate.
        assert!((at(999, 2) - 2.0).abs() < 0.01 && (at(2000, 2) - 3.0).abs() < 1e-9);
        assert!((1..3000).all(|number| at(number, 2) > at(number - 1, 2)));
    }
}
