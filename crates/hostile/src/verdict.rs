//! [`Verdict`]: the judgement of what was measured.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::attacker::AttackerFigures;
use crate::attacks::Attack;
use crate::honest::Latencies;
use crate::repetition::Repetition;
use crate::server::Figures;

/// The factor and the addition by which the honest client's p99 may grow.
const MAX_P99_FACTOR: u32 = 5;
const MAX_P99_ADDED: Duration = Duration::from_millis(5);
/// The most that a server may log in a second on behalf of its peers, in bytes.
const MAX_LOG_RATE: u64 = 64 * 1024;

/// The measurements of a trial.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) before: Latencies,
    pub(crate) during: Latencies,
    pub(crate) control_before: Latencies,
    pub(crate) control_during: Latencies,
    pub(crate) slowest_newcomer: Duration,
    /// The longest latency of each second of the attack.
    pub(crate) slowest: Vec<Duration>,
    pub(crate) errors: usize,
    pub(crate) first_error: Option<String>,
    /// The newcomers that failed during the attack where that is allowed.
    pub(crate) excused: usize,
    pub(crate) figures_before: Figures,
    /// At the end of the attack, with the attacker still there.
    pub(crate) figures_during: Option<Figures>,
    pub(crate) figures_after: Option<Figures>,
    /// At the end of the attack.
    pub(crate) attacker: Option<AttackerFigures>,
    pub(crate) max_memory: u64,
    /// The time until the server held no more than before.
    pub(crate) back_after: Option<Duration>,
    /// The duration of the attack.
    pub(crate) attacked: Duration,
    pub(crate) log_bytes: u64,
    /// The time at which the attacker left.
    pub(crate) left: Option<Instant>,
    /// The figures of the server at rest after each run, if there was more than one.
    pub(crate) repetition: Repetition,
    /// The measurements of the runs after the first.
    pub(crate) further_runs: Vec<Self>,
    /// The failure of the server: it ended, it panicked, or it could not be stopped.
    pub(crate) failure: Option<String>,
}

impl Measured {
    /// Returns what the server did during the attack, for the attacker and the honest client.
    pub(crate) fn work(&self) -> Option<Work> {
        let (before, during) = (self.figures_before, self.figures_during?);
        let requests = during.requests.zip(before.requests);
        Some(Work {
            requests: requests.map(|(during, before)| during.saturating_sub(before)),
            written: during.written.saturating_sub(before.written),
            processor_ms: during.processor_ms.saturating_sub(before.processor_ms),
        })
    }
}

/// The work of a server during an attack: a measure of the attack's strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Work {
    /// `None` if the server did not tell.
    pub(crate) requests: Option<u64>,
    /// Bytes written to files and sockets, as far as the kernel counts them.
    pub(crate) written: u64,
    /// Processor time, in milliseconds.
    pub(crate) processor_ms: u64,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All that was promised held.
    Clean,
    /// Only latencies grew, and those of the control server did too: the machine was busy.
    Busy(String),
    /// The promises that were broken.
    Broken(Vec<String>),
    /// This machine lacks what the attack needs.
    NotTried(&'static str),
}

impl Verdict {
    /// Judges a trial of `attack`.
    pub(crate) fn of(attack: &Attack, measured: &Measured, without_latency: bool) -> Self {
        let mut broken = Vec::new();
        broken.extend(measured.failure.clone());
        if let Some(error) = &measured.first_error {
            broken.push(format!("{} honest calls failed, the first: {error}", measured.errors));
        }
        let (most, megabytes) = (attack.max_memory_mb(), measured.max_memory / 1_000_000);
        if megabytes > most {
            broken.push(format!("{megabytes} MB of memory, of {most}"));
        }
        if measured.back_after.is_none() {
            broken.push("descriptors, connections or calls are not back".to_owned());
        }
        if let (Some(most), Some(work)) = (attack.max_written_mb(), measured.work()) {
            let written = work.written / 1_000_000;
            if written > most {
                broken.push(format!("{written} MB written, of {most}"));
            }
        }
        if measured.log_bytes > MAX_LOG_RATE * measured.attacked.as_secs().max(1) {
            broken.push(format!("{} kB of log", measured.log_bytes / 1000));
        }
        broken.extend(measured.repetition.grown());
        for (number, run) in (2..).zip(&measured.further_runs) {
            // The latencies of one run are enough.
            if let Self::Broken(again) = Self::of(attack, run, true) {
                broken.extend(again.into_iter().map(|broken| format!("run {number}: {broken}")));
            }
        }
        if without_latency {
            return Self::from(broken);
        }
        if attack.must_end()
            && let Some(during) = &measured.figures_during
            && !during.is_back_to(&measured.figures_before)
        {
            broken.push(format!(
                "{} descriptors {} s after the start, of {} before",
                during.descriptors,
                measured.attacked.as_secs(),
                measured.figures_before.descriptors
            ));
        }
        match slower(measured.before, measured.during) {
            Some(slow) if !is_busy(measured) => broken.push(slow),
            Some(slow) if broken.is_empty() => return Self::Busy(slow),
            _ => {}
        }
        Self::from(broken)
    }

    pub(crate) const fn is_clean(&self) -> bool {
        matches!(self, Self::Clean)
    }

    /// Returns `true` if there is none, since this machine lacks what the attack needs.
    pub(crate) const fn is_not_tried(&self) -> bool {
        matches!(self, Self::NotTried(_))
    }
}

fn is_busy(measured: &Measured) -> bool {
    slower(measured.control_before, measured.control_during).is_some()
}

/// Returns a sentence if the p99 has grown by more than it may.
fn slower(before: Latencies, during: Latencies) -> Option<String> {
    let most = before.p99 * MAX_P99_FACTOR + MAX_P99_ADDED;
    let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
    (during.p99 > most).then(|| format!("p99 {:.1} ms, of {:.1}", ms(during.p99), ms(most)))
}

impl From<Vec<String>> for Verdict {
    fn from(broken: Vec<String>) -> Self {
        if broken.is_empty() { Self::Clean } else { Self::Broken(broken) }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("clean"),
            Self::Busy(slow) => write!(f, "busy machine: {slow}"),
            Self::Broken(broken) => f.write_str(&broken.join("; ")),
            Self::NotTried(reason) => write!(f, "not tried: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks;

    fn latencies(p99: u64) -> Latencies {
        Latencies { p50: Duration::ZERO, p99: Duration::from_millis(p99) }
    }

    /// The measurements if nothing happens.
    fn quiet() -> Measured {
        let (before, control_before) = (latencies(1), latencies(1));
        let back_after = Some(Duration::from_secs(1));
        let during = latencies(10);
        Measured { before, control_before, during, control_during: during, back_after, ..Measured::default() }
    }

    fn verdict(measured: &Measured) -> Verdict {
        Verdict::of(&attacks::all()[0], measured, false)
    }

    #[test]
    fn p99_may_grow_to_five_times_and_five_milliseconds() {
        assert_eq!(verdict(&quiet()), Verdict::Clean);
        let slow = Measured { during: latencies(11), ..quiet() };
        assert_eq!(verdict(&slow).to_string(), "p99 11.0 ms, of 10.0");
        assert_eq!(Verdict::of(&attacks::all()[0], &slow, true), Verdict::Clean, "latencies are left out");
        let busy = Measured { control_during: latencies(12), ..slow };
        assert_eq!(verdict(&busy), Verdict::Busy("p99 11.0 ms, of 10.0".to_owned()));
    }

    #[test]
    fn work_is_what_was_done_since_the_attack_began() {
        let figures = |requests, written, processor_ms| Figures {
            requests,
            written,
            processor_ms,
            ..Figures::default()
        };
        let (figures_before, during) = (figures(Some(5), 10, 20), figures(Some(12), 110, 220));
        let measured = Measured { figures_before, figures_during: Some(during), ..quiet() };
        assert_eq!(measured.work(), Some(Work { requests: Some(7), written: 100, processor_ms: 200 }));
        let silent = Measured { figures_during: Some(figures(None, 110, 220)), ..measured };
        assert_eq!(silent.work().unwrap().requests, None, "`/metrics` did not answer");
        assert_eq!(quiet().work(), None);
    }

    #[test]
    fn every_broken_promise_is_named() {
        let grown = Figures { descriptors: 1, ..Figures::default() };
        let run = Measured { errors: 1, first_error: Some("reset".to_owned()), ..quiet() };
        let broken = Measured {
            repetition: [Figures::default(), grown].into_iter().collect(),
            further_runs: vec![run],
            failure: Some("the server panicked".to_owned()),
            errors: 3,
            first_error: Some("refused".to_owned()),
            max_memory: 9_000_000_000,
            back_after: None,
            log_bytes: 1_000_000_000,
            ..quiet()
        };
        let text = verdict(&broken).to_string();
        for part in [
            "1 descriptors after",
            "run 2: 1 honest calls",
            "panicked",
            "3 honest calls failed",
            "9000 MB of memory",
            "not back",
            "kB of log",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
