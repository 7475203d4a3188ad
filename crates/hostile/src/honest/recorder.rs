//! [`Recorder`]: latencies and errors by the phase in which the call started.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// The phase of a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Connections open, and code is run for the first time. Latencies are not recorded.
    #[default]
    WarmUp,
    /// The honest client is alone.
    Before,
    /// The attack is under way.
    During,
    /// The attacker has gone.
    After,
}

/// The outcomes of the calls of a client.
pub(crate) struct Recorder {
    outcomes: Mutex<Outcomes>,
    /// `true` if newcomers must succeed during the attack.
    newcomers_count: bool,
}

#[derive(Default)]
struct Outcomes {
    phase: Phase,
    before: Vec<Duration>,
    during: Vec<Duration>,
    newcomers: Vec<Duration>,
    /// The longest of each second of the attack.
    slowest: Vec<Duration>,
    attack_began: Option<Instant>,
    errors: usize,
    first_error: Option<String>,
    /// The failed newcomers during the attack, where they are allowed.
    excused: usize,
}

impl Recorder {
    pub(crate) fn new(newcomers_count: bool) -> Self {
        Self { outcomes: Mutex::default(), newcomers_count }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    pub(crate) fn begin(&self, phase: Phase) {
        let mut outcomes = self.lock();
        outcomes.phase = phase;
        if phase == Phase::During {
            outcomes.attack_began = Some(Instant::now());
        }
    }

    /// Records a call that started in `phase`.
    pub(crate) fn record(
        &self,
        phase: Phase,
        latency: Duration,
        is_newcomer: bool,
        outcome: Result<(), String>,
    ) {
        let mut outcomes = self.lock();
        let is_excused = is_newcomer && !self.newcomers_count && phase == Phase::During;
        if outcome.is_err() && is_excused {
            outcomes.excused += 1;
        } else if let Err(error) = outcome {
            outcomes.errors += 1;
            outcomes.first_error.get_or_insert_with(|| format!("{phase:?}: {error}"));
        }
        // A failed call counts with the time that its caller lost.
        match (phase, is_newcomer) {
            (Phase::Before, false) => outcomes.before.push(latency),
            (Phase::During, false) => {
                outcomes.during.push(latency);
                outcomes.note_second(latency);
            }
            (Phase::During, true) => outcomes.newcomers.push(latency),
            _ => {}
        }
    }

    pub(crate) fn before(&self) -> Latencies {
        Latencies::of(self.lock().before.clone())
    }

    pub(crate) fn during(&self) -> Latencies {
        Latencies::of(self.lock().during.clone())
    }

    /// Returns the longest latency in each second of the attack.
    pub(crate) fn slowest(&self) -> Vec<Duration> {
        self.lock().slowest.clone()
    }

    /// Returns the longest time that a newcomer took for its connection and its call, during the attack.
    pub(crate) fn slowest_newcomer(&self) -> Duration {
        self.lock().newcomers.iter().max().copied().unwrap_or_default()
    }

    /// Returns the number of failed calls, and the first error.
    pub(crate) fn errors(&self) -> (usize, Option<String>) {
        let outcomes = self.lock();
        (outcomes.errors, outcomes.first_error.clone())
    }

    /// Returns the number of newcomers that failed during the attack, where they are allowed to.
    pub(crate) fn excused(&self) -> usize {
        self.lock().excused
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Outcomes> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outcomes {
    /// Notes the latency of a call that ends now with the second in which it began.
    fn note_second(&mut self, latency: Duration) {
        let Some(began) = self.attack_began else { return };
        let second = began.elapsed().saturating_sub(latency).as_secs() as usize;
        if self.slowest.len() <= second {
            self.slowest.resize(second + 1, Duration::ZERO);
        }
        self.slowest[second] = self.slowest[second].max(latency);
    }
}

/// The distribution of latencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latencies {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Latencies {
    fn of(mut sorted: Vec<Duration>) -> Self {
        sorted.sort_unstable();
        let quantile = |percent: usize| sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default();
        Self { p50: quantile(50), p99: quantile(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_latencies() {
        let latencies = Latencies::of((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!((latencies.p50.as_millis(), latencies.p99.as_millis()), (51, 100));
        assert_eq!(Latencies::of(Vec::new()), Latencies::default());
    }

    #[test]
    fn slowest_calls_are_those_of_the_second_in_which_they_began() {
        let recorder = Recorder::new(true);
        recorder.begin(Phase::During);
        for ms in [3, 9, 5] {
            recorder.record(Phase::During, Duration::from_millis(ms), false, Ok(()));
        }
        assert_eq!(recorder.slowest()[0], Duration::from_millis(9));
    }

    #[test]
    fn errors_of_all_phases_count() {
        let recorder = Recorder::new(true);
        for phase in [Phase::WarmUp, Phase::Before, Phase::During, Phase::After] {
            recorder.record(phase, Duration::from_millis(1), false, Err("refused".to_owned()));
        }
        recorder.record(Phase::During, Duration::from_millis(9), true, Ok(()));
        assert_eq!(recorder.errors(), (4, Some("WarmUp: refused".to_owned())));
        assert_eq!(recorder.slowest_newcomer(), Duration::from_millis(9));
        assert_eq!(recorder.during().p99, Duration::from_millis(1));
    }

    #[test]
    fn newcomers_may_fail_during_the_attack_where_they_are_allowed_to() {
        let recorder = Recorder::new(false);
        for phase in [Phase::During, Phase::After] {
            recorder.record(phase, Duration::from_millis(1), true, Err("refused".to_owned()));
        }
        assert_eq!((recorder.errors().0, recorder.excused()), (1, 1));
    }
}
