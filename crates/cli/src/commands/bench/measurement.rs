//! [`Measurement`]: what a run has counted and timed, in parts that can be added up.

use std::collections::BTreeMap;
use std::time::Duration;

use farcall::RpcError;
use hdrhistogram::Histogram;

use super::job::Traffic;

/// The longest latency that is told apart, in nanoseconds.
const MAX_NANOS: u64 = 3_600_000_000_000;

/// The calls of a run, or of a part of it.
#[derive(Clone, Debug)]
pub(super) struct Measurement {
    /// From when a call was due, or sent in a closed loop, to its outcome; in nanoseconds.
    pub(super) latency: Histogram<u64>,
    /// From when a call was due to when it was sent: the generator's own part.
    pub(super) lag: Histogram<u64>,
    /// The errors, by code and execution.
    pub(super) errors: BTreeMap<(&'static str, &'static str), u64>,
    /// Each second by its calls and the longest latency in it.
    pub(super) seconds: Vec<Second>,
    /// The time from the start to the last outcome.
    pub(super) elapsed: Duration,
    /// The time from the start to when the last call was due.
    pub(super) planned: Duration,
    /// `true` if Ctrl-C ended the run.
    pub(super) was_interrupted: bool,
    /// The items; `None` if the calls have none.
    pub(super) streams: Option<Streams>,
}

/// The items of the streaming calls of a run.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    /// From when a call was due, or opened in a closed loop, to its first item; in nanoseconds.
    pub(super) first: Histogram<u64>,
    pub(super) traffic: Traffic,
    /// The most calls that were open at once.
    pub(super) max_open: u64,
    /// The calls that the end of the run cut off. They are not among the others.
    pub(super) cut: u64,
}

/// The calls that were due within one second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Second {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) max: u64,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    /// When it was due, from the start.
    pub(super) due: Duration,
    /// `None` in a closed loop, where a call is due when it is sent.
    pub(super) lag: Option<Duration>,
    pub(super) latency: Duration,
    /// From when it was due to its first item, if it had one.
    pub(super) first: Option<Duration>,
    pub(super) error: Option<&'a RpcError>,
    pub(super) is_cut: bool,
}

impl Default for Streams {
    fn default() -> Self {
        Self { first: histogram(), traffic: Traffic::default(), max_open: 0, cut: 0 }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(MAX_NANOS, 3).expect("the bounds are valid")
}

impl Default for Measurement {
    fn default() -> Self {
        Self {
            lag: histogram(),
            latency: histogram(),
            errors: BTreeMap::new(),
            seconds: Vec::new(),
            elapsed: Duration::ZERO,
            planned: Duration::ZERO,
            was_interrupted: false,
            streams: None,
        }
    }
}

impl Measurement {
    /// Records a call.
    pub(super) fn record(&mut self, sample: Sample<'_>) {
        let latency = nanos(sample.latency);
        if let Some(first) = sample.first {
            self.streams.get_or_insert_default().first.saturating_record(nanos(first));
        }
        if sample.is_cut {
            self.streams.get_or_insert_default().cut += 1;
        } else {
            self.latency.saturating_record(latency);
        }
        if let Some(lag) = sample.lag {
            self.lag.saturating_record(nanos(lag));
        }
        let index = sample.due.as_secs() as usize;
        if self.seconds.len() <= index {
            self.seconds.resize(index + 1, Second::default());
        }
        let second = &mut self.seconds[index];
        second.calls += 1;
        second.max = second.max.max(latency);
        if let Some(error) = sample.error {
            second.errors += 1;
            *self.errors.entry((error.code().name(), error.execution().name())).or_default() += 1;
        }
        self.elapsed = self.elapsed.max(sample.due + sample.latency);
        self.planned = self.planned.max(sample.due);
    }

    /// Adds another part of the same run.
    pub(super) fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
        let _ = self.lag.add(&other.lag);
        for (error, count) in &other.errors {
            *self.errors.entry(*error).or_default() += count;
        }
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), Second::default());
        }
        for (second, other) in self.seconds.iter_mut().zip(&other.seconds) {
            second.calls += other.calls;
            second.errors += other.errors;
            second.max = second.max.max(other.max);
        }
        self.elapsed = self.elapsed.max(other.elapsed);
        self.planned = self.planned.max(other.planned);
        if let Some(other) = &other.streams {
            let streams = self.streams.get_or_insert_default();
            let _ = streams.first.add(&other.first);
            streams.cut += other.cut;
        }
    }

    /// Returns the number of calls.
    pub(super) fn calls(&self) -> u64 {
        self.latency.len()
    }

    /// Returns the number of calls that failed.
    pub(super) fn failures(&self) -> u64 {
        self.errors.values().sum()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
