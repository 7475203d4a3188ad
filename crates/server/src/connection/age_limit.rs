//! [`AgeLimit`]: the age at which a connection takes no more calls, so that its client connects again.

use std::time::Duration;

use farcall_protocol::time::{MAX_WAIT, later};
use tokio::time::Instant;

use crate::limits::Limits;

/// The part of the age that is added or subtracted at random, as a divisor.
const JITTER_PART: u32 = 10;

/// The times at which a connection that has grown old is given up, step by step.
#[derive(Clone, Copy, Debug)]
pub(super) struct AgeLimit {
    grace: Option<Duration>,
    next: Option<AgeStep>,
}

/// A step, and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AgeStep {
    Retire(Instant),
    Cut(Instant),
}

/// The action that the age of a connection calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgeAction {
    /// None before this time.
    Until(Instant),
    /// Take no more calls.
    Retire,
    /// Give up the streams that are left.
    Cut,
}

impl AgeLimit {
    /// Creates the limit of a connection that begins.
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let retire = |age: Duration| {
            // A number from -1 to 1, times the jitter.
            let jitter = fastrand::f64().mul_add(2.0, -1.0) / f64::from(JITTER_PART);
            AgeStep::Retire(later(now, age.min(MAX_WAIT).mul_f64(1.0 + jitter)))
        };
        Self { grace: limits.connection_age_grace, next: limits.max_connection_age.map(retire) }
    }

    /// Returns `true` if the connection may grow too old.
    pub(super) const fn is_limited(&self) -> bool {
        self.next.is_some()
    }

    /// Returns the action for `now`, once.
    pub(super) fn check(&mut self, now: Instant) -> AgeAction {
        match self.next {
            Some(AgeStep::Retire(time)) if time <= now => {
                self.next = self.grace.map(|grace| AgeStep::Cut(later(now, grace)));
                AgeAction::Retire
            }
            Some(AgeStep::Cut(time)) if time <= now => {
                self.next = None;
                AgeAction::Cut
            }
            Some(AgeStep::Retire(time) | AgeStep::Cut(time)) => AgeAction::Until(time),
            None => AgeAction::Until(later(now, MAX_WAIT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(1000);

    #[tokio::test(start_paused = true)]
    async fn connections_retire_at_different_times_around_the_age() {
        let limits = Limits::default().max_connection_age(AGE).connection_age_grace(Duration::from_secs(5));
        let now = Instant::now();
        let times: Vec<_> = (1..=20)
            .map(|_| match AgeLimit::new(&limits, now).check(now) {
                AgeAction::Until(time) => time - now,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(times.iter().all(|time| (900..=1100).contains(&time.as_secs())), "{times:?}");
        assert!(times.iter().any(|time| *time != times[0]), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn streams_are_given_up_after_the_grace() {
        let limits = Limits::default().max_connection_age(AGE).connection_age_grace(Duration::from_secs(5));
        let now = Instant::now();
        let mut age = AgeLimit::new(&limits, now);
        assert!(age.is_limited());
        let retired = now + 2 * AGE;
        assert_eq!(age.check(retired), AgeAction::Retire);
        assert_eq!(age.check(retired), AgeAction::Until(retired + Duration::from_secs(5)));
        assert_eq!(age.check(retired + Duration::from_secs(5)), AgeAction::Cut);
        assert!(matches!(age.check(retired + AGE), AgeAction::Until(_)));
        assert!(!AgeLimit::new(&Limits::default(), now).is_limited());
    }
}
