//! [`AdmissionControl`]: which calls start, wait and are refused, without a clock, locks or tasks. [`super::admission`] has those; the order of
//! the calls that wait is the [`queue`](super::queue)'s, and the number that may run the [`law`](super::law)'s.

use std::time::Duration;

use farcall_protocol::Criticality;
use serde::Serialize;
use tokio::time::Instant;

use super::law::{Cohort, ConcurrencyLaw};
use super::queue::{AdmissionQueue, Ticket};
use super::refusal::{Refusal, RefusalReason};
use super::shedding::Shedding;

/// The calls that run and that wait, and the limit that is found out from them. `T` is what a call that waits is told by.
#[derive(Debug)]
pub(super) struct AdmissionControl<T> {
    law: ConcurrencyLaw,
    /// Bounded by [`AdmissionControl::max_queued`].
    queue: AdmissionQueue<T>,
    running: usize,
    /// The server is overloaded, and critical calls alone are too many.
    shedding: Shedding,
    shedding_critical: Shedding,
    refused: RefusedCalls,
}

/// A call that asks for a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) method: usize,
    pub(super) criticality: Criticality,
    /// A number that distinguishes the caller from others.
    pub(super) caller: u64,
    pub(super) deadline: Option<Instant>,
}

/// The decision on a call.
#[derive(Debug)]
pub(super) enum Decision<T> {
    /// Starts the call.
    Start,
    /// Has it wait until then, and refuses the call that it has pushed out of the queue.
    Wait { ticket: Ticket, until: Instant, evicted: Option<(T, Refusal)> },
    /// Refuses it.
    Refuse(Refusal),
}

/// The calls refused since the server was built, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RefusedCalls {
    /// Calls that found no place in time.
    pub overloaded: u64,
    /// Sheddable calls that were refused at once in overload.
    pub sheddable: u64,
    /// Calls whose handlers could not have ended within their deadlines.
    pub deadline: u64,
}

/// The state of a server's adaptive limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OverloadOverview {
    /// The number of calls that may run at once.
    pub limit: usize,
    /// Those that run.
    pub running: usize,
    /// Those that wait for a place.
    pub queued: usize,
    /// The number of calls that may wait.
    pub max_queued: usize,
    /// `true` while more calls come than the server can work on: then the newest are first.
    pub overloaded: bool,
    /// The mean latency of the last calls as it would be without load, in microseconds; `None` before the first measurement.
    pub unloaded_us: Option<u64>,
    /// The calls that were refused.
    pub refused: RefusedCalls,
}

/// The latency that is assumed before the first measurement.
const ASSUMED_LATENCY: Duration = Duration::from_millis(50);
/// The calls that wait, by the limit, from which on there is overload, or too many critical calls: as many usual latencies would
/// the next one wait.
const MANY: f64 = 3.0;
/// The part of the calls that find a place at once which ends overload: with a load of 0.7 of what the server can do it is over one half, at
/// 1.2 times it under a tenth.
const MANY_AT_ONCE: f64 = 0.35;
/// The part of the critical calls that are served which shows that they are not too many.
const ENOUGH_SERVED: f64 = 0.75;
/// The usual latencies for which a call waits at most: as long as that if there is no overload. In overload, those that are served
/// take less than twice as long as without load.
const PATIENT: f64 = 5.0;
const HURRIED: f64 = 0.6;
/// Critical calls are served before all others, so that this is long enough for all unless they alone are too many.
const CRITICAL: f64 = 16.0;
/// The shortest and the longest such time: that of a timer, and that after which hardly a caller is there.
const MIN_WAIT: Duration = Duration::from_millis(1);
const MAX_WAIT: Duration = Duration::from_secs(10);
/// The calls that may wait, by the limit, and in addition.
const QUEUED_PER_PLACE: usize = 4;
const MIN_QUEUED: usize = 64;

impl<T> AdmissionControl<T> {
    /// Creates the state of a server with this number of methods.
    pub(super) fn new(methods: usize, now: Instant) -> Self {
        Self {
            law: ConcurrencyLaw::new(methods, now),
            queue: AdmissionQueue::new(),
            running: 0,
            shedding: Shedding::new(MANY_AT_ONCE),
            shedding_critical: Shedding::new(ENOUGH_SERVED),
            refused: RefusedCalls::default(),
        }
    }

    /// Notes the time, which may change the limit: the caller then takes calls with [`AdmissionControl::next`].
    pub(super) fn advance(&mut self, now: Instant) {
        self.law.advance(now);
    }

    /// Decides on a call. `waiter` makes what it is told by if it waits.
    pub(super) fn admit(&mut self, call: &Arrival, now: Instant, waiter: impl FnOnce() -> T) -> Decision<T> {
        let latest = match (call.deadline, self.law.shortest(call.method)) {
            (Some(deadline), Some(shortest)) if now + shortest > deadline => {
                return Decision::Refuse(self.refuse(RefusalReason::Deadline));
            }
            (Some(deadline), shortest) => Some(deadline - shortest.unwrap_or_default()),
            (None, _) => None,
        };
        let is_at_once = self.running < self.law.limit();
        self.shedding.note(is_at_once, self.law.usual_limit());
        if is_at_once {
            self.note(call.criticality, true);
            return Decision::Start;
        }
        self.law.found_full(self.shedding.is_on());
        let patience = self.patience(call.criticality);
        if call.criticality == Criticality::Sheddable && self.is_too_late(patience) {
            return Decision::Refuse(self.refuse(RefusalReason::Sheddable));
        }
        let mut evicted = None;
        if self.queue.len() >= self.max_queued() {
            let refusal = self.refuse(RefusalReason::Overloaded);
            let Some(waiter) = self.queue.evict(call.criticality) else { return Decision::Refuse(refusal) };
            evicted = Some((waiter, refusal));
        }
        let until = now + patience;
        let until = latest.map_or(until, |latest| latest.min(until));
        let turn = self.typical();
        let cost = self.law.unloaded(call.method).unwrap_or(turn);
        let ticket = self.queue.push(call.criticality, call.caller, cost, turn, waiter());
        self.observe();
        Decision::Wait { ticket, until, evicted }
    }

    /// Takes a place for a call that starts.
    pub(super) fn start(&mut self, method: usize, now: Instant) -> Cohort {
        self.running += 1;
        self.law.started(method, self.running, now)
    }

    /// Releases the place of a call whose handler took this time. `completed` is `false` for one that was stopped before its end.
    pub(super) fn end(
        &mut self,
        method: usize,
        cohort: Cohort,
        took: Duration,
        completed: bool,
        now: Instant,
    ) {
        self.running -= 1;
        self.law.ended(method, cohort, took, completed, now);
    }

    /// Releases the place of a call that was granted it, and had left.
    pub(super) fn give_back(&mut self, method: usize, cohort: Cohort, now: Instant) {
        self.end(method, cohort, Duration::ZERO, false, now);
    }

    /// Takes the next call that waits, if a place is free for it. It is started by [`AdmissionControl::start`].
    pub(super) fn next(&mut self) -> Option<T> {
        let criticality = self.queue.highest()?;
        if self.running >= self.law.limit() {
            return None;
        }
        let is_critical = criticality == Criticality::Critical;
        let shedding = if is_critical { &self.shedding_critical } else { &self.shedding };
        let waiter = self.queue.take(shedding.is_on())?;
        self.note(criticality, true);
        Some(waiter)
    }

    /// Removes a call from the queue. Returns the refusal of a call that has waited too long; `None` if it was taken already.
    pub(super) fn give_up(&mut self, ticket: Ticket) -> Option<Refusal> {
        self.queue.remove(ticket)?;
        self.note(ticket.class(), false);
        Some(self.refuse(RefusalReason::Overloaded))
    }

    /// Removes a call from the queue, if it is there, whose caller has left.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        self.queue.remove(ticket);
    }

    /// Returns the state for observers.
    pub(super) fn overview(&self) -> OverloadOverview {
        let law = self.law.state();
        OverloadOverview {
            limit: law.limit,
            running: self.running,
            queued: self.queue.len(),
            max_queued: self.max_queued(),
            overloaded: self.shedding.is_on(),
            unloaded_us: law.typical.map(|typical| u64::try_from(typical.as_micros()).unwrap_or(u64::MAX)),
            refused: self.refused,
        }
    }

    fn max_queued(&self) -> usize {
        QUEUED_PER_PLACE * self.law.limit() + MIN_QUEUED
    }

    fn typical(&self) -> Duration {
        self.law.typical().unwrap_or(ASSUMED_LATENCY)
    }

    /// Returns how long a call of this class waits for a place.
    fn patience(&self, criticality: Criticality) -> Duration {
        let latencies = match criticality {
            Criticality::Critical if !self.shedding_critical.is_on() => CRITICAL,
            _ if self.shedding.is_on() => HURRIED,
            _ => PATIENT,
        };
        self.typical().mul_f64(latencies * self.law.burstiness()).clamp(MIN_WAIT, MAX_WAIT)
    }

    /// Returns `true` if all the calls that wait take the places that become free in this time.
    fn is_too_late(&self, patience: Duration) -> bool {
        let places = patience.as_secs_f64() / self.typical().as_secs_f64() * self.law.limit() as f64;
        self.queue.len() as f64 >= places
    }

    /// Notes that one call more waits.
    fn observe(&mut self) {
        let latency = self.law.burstiness() * self.law.usual_limit() as f64;
        let half = self.max_queued() as f64 / 2.0;
        let queued = self.queue.len() as f64;
        self.shedding.begin_if(queued >= (MANY * latency).min(half));
        let critical = self.queue.len_of(Criticality::Critical) as f64;
        self.shedding_critical.begin_if(critical >= half);
    }

    /// Notes what became of a call.
    fn note(&mut self, criticality: Criticality, was_served: bool) {
        if criticality == Criticality::Critical {
            self.shedding_critical.note(was_served, self.law.usual_limit());
        }
    }

    fn refuse(&mut self, reason: RefusalReason) -> Refusal {
        let count = match reason {
            RefusalReason::Overloaded => &mut self.refused.overloaded,
            RefusalReason::Sheddable => &mut self.refused.sheddable,
            RefusalReason::Deadline => &mut self.refused.deadline,
        };
        *count += 1;
        self.law.refused();
        Refusal { reason, limit: self.law.limit(), retry_after: self.law.retry_after() }
    }
}
