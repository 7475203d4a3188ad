//! [`Judgement`]: which promises held in a trial.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use farcall::protocol::Execution;
use serde::Serialize;

use super::clock_lag::ClockLag;
use super::fault::Fault;
use super::traffic::{MAX_LIMIT, Outcome, Record, Records, Timing};

/// The time by which a call may outlive its limit.
const MAX_LATE: Duration = Duration::from_millis(100);
/// The time by which silence may be noticed later than the keep-alive says: timers are as late as calls.
const MAX_LATE_NOTICE: Duration = Duration::from_millis(100);

/// The moments of a trial.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) began: Instant,
    /// When all of the fault was there.
    pub(super) made: Instant,
    pub(super) healed: Instant,
    pub(super) stopped: Instant,
}

/// All that was observed in a trial.
pub(super) struct Observed {
    pub(super) records: Records,
    pub(super) marks: Marks,
    pub(super) lag: ClockLag,
    /// The number of times that each call has begun at a server.
    pub(super) begun: HashMap<u64, u32>,
    /// The time until the server had no connection of a client any more.
    pub(super) server_noticed: Option<Duration>,
    /// The time after the last call until servers held nothing; `None` if they did hold something.
    pub(super) left: Option<Duration>,
}

/// The figures of the clients with one keep-alive. Times are in seconds unless they say otherwise.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) calls: usize,
    pub(super) answered: usize,
    /// Of the calls that began during the fault.
    pub(super) answered_during_percent: f64,
    pub(super) late_ms: f64,
    /// The p50 and the p99 of the answered calls that began during the fault.
    pub(super) latencies_during_ms: [f64; 2],
    /// The time until the busy and the idle connection were given up.
    pub(super) noticed: [Option<f64>; 2],
    /// The time after the beginning of the fault from which on all calls were answered, while it lasted.
    pub(super) failed_over: f64,
    /// The time after the heal from which on all calls were answered.
    pub(super) recovered: f64,
    pub(super) failures: BTreeMap<String, usize>,
}

/// The judgement of a trial.
#[derive(Debug, Serialize)]
pub(super) struct Judgement {
    pub(super) clients: BTreeMap<&'static str, Figures>,
    pub(super) server_noticed: Option<f64>,
    pub(super) left: Option<f64>,
    pub(super) max_lag_ms: f64,
    pub(super) broken: Vec<String>,
    /// `true` if calls were late, and timers of this machine as well.
    pub(super) is_busy: bool,
}

impl Judgement {
    pub(super) fn of(fault: Fault, observed: &Observed) -> Self {
        let Observed { records, marks, lag, begun, server_noticed, left } = observed;
        let (promise, lasted) = (fault.promise(), marks.healed - marks.made);
        let mut broken = untruths(&records.calls, begun);
        let mut is_busy = false;
        let leeway = MAX_LATE_NOTICE + lag.between(marks.began, marks.stopped);
        for call in &records.calls {
            let (due, late) = (call.begun + call.limit, lateness(call));
            if late > MAX_LATE {
                let lag = lag.between(due, call.ended);
                if late.saturating_sub(lag) > MAX_LATE {
                    broken.push(format!("call {} ended {} ms after its limit", call.id, late.as_millis()));
                } else {
                    is_busy = true;
                }
            }
        }
        let mut clients = BTreeMap::new();
        for timing in Timing::ALL {
            let figures = figures(timing, records, marks);
            let name = timing.name();
            let limit = timing.notices_within();
            if promise.clients_notice && lasted > limit {
                for (noticed, which) in figures.noticed.iter().zip(["busy", "idle"]) {
                    if noticed.is_none_or(|noticed| noticed > (limit + leeway).as_secs_f64()) {
                        broken.push(format!("{name}, {which}: silence noticed after {noticed:?} s"));
                    }
                }
            }
            if promise.fails_over && figures.failed_over > (limit + leeway).as_secs_f64() {
                broken.push(format!("{name}: calls failed for {:.1} s", figures.failed_over));
            }
            if figures.recovered > promise.recovers_within.as_secs_f64() {
                broken.push(format!("{name}: calls failed {:.1} s after the heal", figures.recovered));
            }
            clients.insert(name, figures);
        }
        if promise.survives {
            if let Some(lost) = records.lost.first() {
                let after = lost.at.saturating_duration_since(marks.began);
                broken.push(format!("{}: a connection was lost after {after:.1?}", lost.timing.name()));
            }
            let long = |call: &&Record| call.limit == MAX_LIMIT && call.outcome != Outcome::Answered;
            let failed = records.calls.iter().filter(long).count();
            if failed > 0 {
                broken.push(format!("{failed} calls with a limit of {MAX_LIMIT:?} failed"));
            }
        }
        if let Some(limit) = promise.server_notices_within
            && lasted > limit
            && server_noticed.is_none_or(|noticed| noticed > limit + leeway)
        {
            broken.push(format!("the server noticed after {server_noticed:?}"));
        }
        if left.is_none() {
            broken.push("the server still holds something of clients that have gone".to_owned());
        }
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        Self {
            clients,
            server_noticed: seconds(*server_noticed),
            left: seconds(*left),
            max_lag_ms: lag.between(marks.began, marks.stopped).as_secs_f64() * 1e3,
            broken,
            is_busy,
        }
    }
}

fn lateness(call: &Record) -> Duration {
    call.ended.saturating_duration_since(call.begun + call.limit)
}

/// Returns what was said about calls and is not true.
fn untruths(calls: &[Record], begun: &HashMap<u64, u32>) -> Vec<String> {
    let mut broken = Vec::new();
    for call in calls {
        let begun = begun.get(&call.id).copied().unwrap_or_default();
        let wrong = match call.outcome {
            Outcome::Unended => "did not end",
            Outcome::Wrong => "got the answer of another",
            Outcome::Answered if begun == 0 => "was answered, and never made",
            Outcome::Failed(_, Execution::NotSent | Execution::Refused) if begun > 0 => {
                "was said not to be made, and was"
            }
            _ if begun > 1 && !call.is_idempotent => "was made twice",
            _ => continue,
        };
        broken.push(format!("call {} {wrong}", call.id));
    }
    broken
}

fn figures(timing: Timing, records: &Records, marks: &Marks) -> Figures {
    let calls: Vec<&Record> = records.calls.iter().filter(|call| call.timing == timing).collect();
    let is_answered = |call: &&&Record| call.outcome == Outcome::Answered;
    let during: Vec<&Record> =
        calls.iter().copied().filter(|call| (marks.began..marks.healed).contains(&call.begun)).collect();
    let mut latencies: Vec<Duration> =
        during.iter().filter(is_answered).map(|call| call.ended - call.begun).collect();
    latencies.sort_unstable();
    let percentile = |part: usize| {
        let latency = latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
        latency.as_secs_f64() * 1e3
    };
    let last_failure = |from: Instant, to: Instant| {
        let failed = calls.iter().filter(|call| call.outcome != Outcome::Answered);
        let times = failed.map(|call| call.begun).filter(|begun| (from..to).contains(begun));
        times.max().map_or(0.0, |last| (last - from).as_secs_f64())
    };
    let noticed = [true, false].map(|is_busy| {
        let of_this = records.lost.iter().filter(|lost| lost.timing == timing && lost.is_busy == is_busy);
        let first = of_this.map(|lost| lost.at).filter(|at| *at >= marks.began).min();
        first.map(|at| at.saturating_duration_since(marks.made).as_secs_f64())
    });
    let mut failures = BTreeMap::new();
    for call in &calls {
        if let Outcome::Failed(code, execution) = call.outcome {
            *failures.entry(format!("{code:?} {execution:?}")).or_default() += 1;
        }
    }
    Figures {
        calls: calls.len(),
        answered: calls.iter().filter(is_answered).count(),
        answered_during_percent: 100.0 * latencies.len() as f64 / during.len().max(1) as f64,
        latencies_during_ms: [50, 99].map(percentile),
        late_ms: calls.iter().map(|call| lateness(call)).max().unwrap_or_default().as_secs_f64() * 1e3,
        noticed,
        failed_over: last_failure(marks.began, marks.healed),
        recovered: last_failure(marks.healed, marks.stopped),
        failures,
    }
}

#[cfg(test)]
mod tests {
    use farcall::protocol::Code;

    use super::*;

    #[test]
    fn untruths_are_named() {
        let now = Instant::now();
        let call = |id, is_idempotent, outcome| Record {
            timing: Timing::Default,
            id,
            begun: now,
            ended: now,
            limit: MAX_LIMIT,
            is_idempotent,
            outcome,
        };
        let refused = Outcome::Failed(Code::Unavailable, Execution::Refused);
        let maybe = Outcome::Failed(Code::Unavailable, Execution::Maybe);
        let fine = [call(1, false, Outcome::Answered), call(2, true, maybe), call(3, false, refused)];
        let begun = HashMap::from([(1, 1), (2, 2), (4, 1), (5, 2)]);
        assert!(untruths(&fine, &begun).is_empty());
        let untrue = [
            call(3, false, Outcome::Answered),
            call(4, false, refused),
            call(5, false, maybe),
            call(6, false, Outcome::Unended),
            call(1, false, Outcome::Wrong),
        ];
        assert_eq!(untruths(&untrue, &begun).len(), untrue.len());
    }
}
