//! [`Overload`]: the decision on each call of a server with an adaptive limit, and the [`Place`] that each call holds which runs.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_protocol::Criticality;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::law::{Cohort, ConcurrencyLaw};
use super::queue::{AdmissionQueue, Ticket};
use super::refusal::{Refusal, RefusalReason};
use crate::service::method::Method;

/// The calls that run and that wait, and the limit that is found out from them.
///
/// Calls of methods whose handlers have always ended in their first poll are not limited: they hold nothing, and a connection
/// polls one after the other. Nor are streaming calls, which may last for days, and the reserved methods.
#[derive(Debug)]
pub(crate) struct Overload {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    law: ConcurrencyLaw,
    /// Bounded by [`State::max_queued`].
    queue: AdmissionQueue<Waiter>,
    running: usize,
    /// The time since which calls have been waiting all the time; `None` if none is waiting.
    queued_since: Option<Instant>,
    /// The server counts as overloaded until then.
    overloaded_until: Option<Instant>,
    refused: RefusedCalls,
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

/// The decision on a call.
#[derive(Debug)]
pub(crate) enum Entry {
    /// The call starts, and takes its place if it needs a task.
    Start,
    /// The call waits for a place.
    Wait(PlaceWait),
    /// The call is refused.
    Refuse(Refusal),
}

/// A call that asks for a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applicant<'a> {
    pub(crate) method: &'a Method,
    pub(crate) criticality: Criticality,
    /// A number that distinguishes the caller from others.
    pub(crate) caller: u64,
    pub(crate) deadline: Option<Instant>,
}

/// The place of a call among those that run. It is released when this is dropped, which the handler's end must precede.
#[derive(Debug)]
pub(crate) struct Place {
    /// `None` once it was given back.
    overload: Option<Arc<Overload>>,
    method: usize,
    cohort: Cohort,
    began: Instant,
    completed: bool,
}

/// A call's wait for a place.
#[derive(Debug)]
pub(crate) struct PlaceWait {
    overload: Arc<Overload>,
    ticket: Ticket,
    receiver: oneshot::Receiver<Result<Place, Refusal>>,
    until: Instant,
}

/// The other end of a [`PlaceWait`].
#[derive(Debug)]
struct Waiter {
    sender: oneshot::Sender<Result<Place, Refusal>>,
    method: usize,
}

/// The latency that is assumed before the first measurement.
const ASSUMED_LATENCY: Duration = Duration::from_millis(50);
/// The time for which calls must be waiting without a break until that counts as overload, within these; and how long they wait
/// before it: twice the usual latency. CoDel's interval (Nichols and Jacobson, 2012) is that of the slowest connection, too.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// The part of the usual latency that a call waits in overload: with it, those that are served take less than twice as long as
/// without load. A caller that has no other call waiting is the next one, and waits longer for that.
const HURRIED: f64 = 0.3;
const HURRIED_ALONE: f64 = 0.5;
/// The shortest such time: that of a timer.
const MIN_WAIT: Duration = Duration::from_millis(1);
/// Critical calls wait this many times as long as the usual latency: they are served before all others.
const CRITICAL: u32 = 4;
/// The time without refusals after which the overload is over.
const CALM: Duration = Duration::from_millis(500);
/// The calls that may wait, by the limit, and in addition.
const QUEUED_PER_PLACE: usize = 4;
const MIN_QUEUED: usize = 64;

impl Overload {
    /// Creates the state of a server with this number of methods.
    pub(crate) fn new(methods: usize) -> Arc<Self> {
        let state = State {
            law: ConcurrencyLaw::new(methods, Instant::now()),
            queue: AdmissionQueue::new(),
            running: 0,
            queued_since: None,
            overloaded_until: None,
            refused: RefusedCalls::default(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Decides on a call.
    pub(crate) fn admit(self: &Arc<Self>, call: &Applicant<'_>, now: Instant) -> Entry {
        let method = call.method;
        if !method.has_tasks.load(Relaxed) {
            return Entry::Start;
        }
        self.lock().law.advance(now);
        // The limit may have been raised.
        self.grant(now);
        let mut state = self.lock();
        let latest = match (call.deadline, state.law.shortest(method.index)) {
            (Some(deadline), Some(shortest)) if now + shortest > deadline => {
                return Entry::Refuse(state.refuse(RefusalReason::Deadline));
            }
            (Some(deadline), shortest) => Some(deadline - shortest.unwrap_or_default()),
            (None, _) => None,
        };
        if state.running < state.law.limit() {
            return Entry::Start;
        }
        state.law.found_full();
        state.observe(now);
        if state.is_overloaded(now) && call.criticality == Criticality::Sheddable {
            return Entry::Refuse(state.refuse(RefusalReason::Sheddable));
        }
        if state.queue.len() >= state.max_queued() {
            let refusal = state.refuse_late(now);
            let Some(evicted) = state.queue.evict(call.criticality) else { return Entry::Refuse(refusal) };
            // Its caller may have left in this moment.
            let _ = evicted.sender.send(Err(refusal));
        }
        let until = now + state.patience(call, now);
        let until = latest.map_or(until, |latest| latest.min(until));
        let cost = state.law.unloaded(method.index).unwrap_or_default();
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter { sender, method: method.index };
        let ticket = state.queue.push(call.criticality, call.caller, cost, waiter);
        state.queued_since.get_or_insert(now);
        drop(state);
        Entry::Wait(PlaceWait::new(Arc::clone(self), ticket, receiver, until))
    }

    /// Takes a place for a call that has started, and needs a task.
    ///
    /// `None` if the method is not limited.
    pub(crate) fn begin(self: &Arc<Self>, method: &Method, now: Instant) -> Option<Place> {
        if method.is_reserved {
            return None;
        }
        method.has_tasks.store(true, Relaxed);
        let cohort = self.lock().start();
        Some(Place::new(Arc::clone(self), method.index, cohort, now))
    }

    /// Releases a place, and hands it on.
    fn end(self: &Arc<Self>, place: &Place) {
        let now = Instant::now();
        let mut state = self.lock();
        state.running -= 1;
        state.law.ended(place.method, place.cohort, now - place.began, place.completed, now);
        drop(state);
        self.grant(now);
    }

    /// Removes a call from the queue. Returns the refusal of a call that has waited too long; `None` if it was taken already.
    fn give_up(&self, ticket: Ticket) -> Option<Refusal> {
        let mut state = self.lock();
        state.queue.remove(ticket)?;
        Some(state.refuse_late(Instant::now()))
    }

    /// Removes a call from the queue, if it is there, whose caller has left.
    fn forget(&self, ticket: Ticket) {
        let mut state = self.lock();
        state.queue.remove(ticket);
        state.observe(Instant::now());
    }

    /// Gives free places to those that wait.
    fn grant(self: &Arc<Self>, now: Instant) {
        // The lock is not held while a waiter is woken, or a place is dropped.
        while let Some((waiter, cohort)) = self.next_waiter(now) {
            let place = Place::new(Arc::clone(self), waiter.method, cohort, now);
            if let Err(Ok(place)) = waiter.sender.send(Ok(place)) {
                place.give_back();
                self.lock().running -= 1;
            }
        }
    }

    fn next_waiter(&self, now: Instant) -> Option<(Waiter, Cohort)> {
        let mut state = self.lock();
        if state.running >= state.law.limit() || state.queue.is_empty() {
            return None;
        }
        let newest_first = state.is_overloaded(now);
        let turn = state.law.typical().unwrap_or(ASSUMED_LATENCY);
        let waiter = state.queue.take(newest_first, turn)?;
        state.observe(now);
        Some((waiter, state.start()))
    }

    /// Returns the state for observers.
    pub(crate) fn overview(&self) -> OverloadOverview {
        let state = self.lock();
        let law = state.law.state();
        OverloadOverview {
            limit: law.limit,
            running: state.running,
            queued: state.queue.len(),
            max_queued: state.max_queued(),
            overloaded: state.is_overloaded(Instant::now()),
            unloaded_us: law.typical.map(|typical| u64::try_from(typical.as_micros()).unwrap_or(u64::MAX)),
            refused: state.refused,
        }
    }

    /// Nothing panics under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    const fn new(overload: Arc<Overload>, method: usize, cohort: Cohort, began: Instant) -> Self {
        Self { overload: Some(overload), method, cohort, began, completed: false }
    }

    /// Notes that the handler has run to its end.
    pub(crate) const fn complete(&mut self) {
        self.completed = true;
    }

    /// Drops it without releasing the place.
    fn give_back(mut self) {
        self.overload = None;
    }
}

impl Drop for Place {
    /// However the call ends, also when its task is dropped unfinished, the place is free for the next one.
    fn drop(&mut self) {
        if let Some(overload) = self.overload.take() {
            overload.end(self);
        }
    }
}

impl PlaceWait {
    const fn new(
        overload: Arc<Overload>,
        ticket: Ticket,
        receiver: oneshot::Receiver<Result<Place, Refusal>>,
        until: Instant,
    ) -> Self {
        Self { overload, ticket, receiver, until }
    }

    /// Waits for the place.
    ///
    /// # Errors
    ///
    /// None became free in time.
    pub(crate) async fn granted(mut self) -> Result<Place, Refusal> {
        let granted = match timeout_at(self.until, &mut self.receiver).await {
            Ok(granted) => granted,
            Err(_elapsed) => match self.overload.give_up(self.ticket) {
                Some(refusal) => return Err(refusal),
                // It was granted in this moment.
                None => (&mut self.receiver).await,
            },
        };
        granted.expect("a waiter that leaves the queue is answered")
    }
}

impl Drop for PlaceWait {
    /// Of a call that is cancelled, or whose deadline passes, no waiter is left in the queue. A place that was granted in the
    /// same moment is dropped with the receiver, and so released.
    fn drop(&mut self) {
        self.overload.forget(self.ticket);
    }
}

impl State {
    fn start(&mut self) -> Cohort {
        self.running += 1;
        self.law.started(self.running)
    }

    fn max_queued(&self) -> usize {
        QUEUED_PER_PLACE * self.law.limit() + MIN_QUEUED
    }

    /// Returns the time for which calls must be waiting until that counts as overload.
    fn interval(&self) -> Duration {
        (2 * self.law.typical().unwrap_or(ASSUMED_LATENCY)).clamp(MIN_INTERVAL, MAX_INTERVAL)
    }

    /// Returns how long a call of this class waits for a place.
    fn patience(&self, call: &Applicant<'_>, now: Instant) -> Duration {
        let typical = self.law.typical().unwrap_or(ASSUMED_LATENCY);
        if call.criticality == Criticality::Critical {
            (CRITICAL * typical).max(self.interval())
        } else if self.is_overloaded(now) {
            // With few places, the next one becomes free later than that.
            let limit = self.law.limit().max(1) as f64;
            let has_others = self.queue.has_calls_of(call.criticality, call.caller);
            let part = if has_others { HURRIED } else { HURRIED_ALONE };
            typical.mul_f64(part.max(1.5 / limit)).max(MIN_WAIT)
        } else {
            self.interval()
        }
    }

    /// Notes whether calls wait, and for how long they have.
    fn observe(&mut self, now: Instant) {
        if self.queue.is_empty() {
            self.queued_since = None;
        } else if self.queued_since.is_some_and(|since| now - since > self.interval()) {
            self.overloaded_until = Some(now + CALM.max(self.interval()));
        }
    }

    fn is_overloaded(&self, now: Instant) -> bool {
        self.overloaded_until.is_some_and(|until| now < until)
    }

    /// Counts the refusal of a call that found no place in time, which is overload.
    fn refuse_late(&mut self, now: Instant) -> Refusal {
        self.observe(now);
        self.overloaded_until = Some(now + CALM.max(self.interval()));
        self.refuse(RefusalReason::Overloaded)
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
