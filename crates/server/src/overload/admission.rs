//! [`Overload`]: the place that each call of a server with an adaptive limit asks for, waits for, holds and releases. It has the lock, the
//! clock and the waiters; the decisions are [`AdmissionControl`]'s.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farcall_protocol::Criticality;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::control::{AdmissionControl, Arrival, Decision, OverloadOverview};
use super::law::Cohort;
use super::queue::Ticket;
use super::refusal::Refusal;
use crate::service::method::Method;

/// The calls that run and that wait, and the limit that is found out from them.
///
/// Calls of methods whose handlers have always ended in their first poll are not limited: they hold nothing, and a connection
/// polls one after the other. Nor are streaming calls, which may last for days, and the reserved methods.
#[derive(Debug)]
pub(crate) struct Overload {
    control: Mutex<AdmissionControl<Waiter>>,
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

impl Overload {
    /// Creates the state of a server with this number of methods.
    pub(crate) fn new(methods: usize) -> Arc<Self> {
        Arc::new(Self { control: Mutex::new(AdmissionControl::new(methods, Instant::now())) })
    }

    /// Decides on a call.
    pub(crate) fn admit(self: &Arc<Self>, call: &Applicant<'_>, now: Instant) -> Entry {
        let &Applicant { method, criticality, caller, deadline } = call;
        if !method.has_tasks.load(Relaxed) {
            return Entry::Start;
        }
        self.lock().advance(now);
        // The limit may have been raised.
        self.grant(now);
        let arrival = Arrival { method: method.index, criticality, caller, deadline };
        let mut receiver = None;
        let waiter = || {
            let (sender, of_call) = oneshot::channel();
            receiver = Some(of_call);
            Waiter { sender, method: method.index }
        };
        let decision = self.lock().admit(&arrival, now, waiter);
        match decision {
            Decision::Start => Entry::Start,
            Decision::Refuse(refusal) => Entry::Refuse(refusal),
            Decision::Wait { ticket, until, evicted } => {
                if let Some((evicted, refusal)) = evicted {
                    // Its caller may have left in this moment.
                    let _ = evicted.sender.send(Err(refusal));
                }
                let receiver = receiver.expect("a call that waits is told by something");
                Entry::Wait(PlaceWait::new(Arc::clone(self), ticket, receiver, until))
            }
        }
    }

    /// Takes a place for a call that has started, and needs a task.
    ///
    /// `None` if the method is not limited.
    pub(crate) fn begin(self: &Arc<Self>, method: &Method, now: Instant) -> Option<Place> {
        if method.is_reserved {
            return None;
        }
        method.has_tasks.store(true, Relaxed);
        let cohort = self.lock().start(method.index, now);
        Some(Place::new(Arc::clone(self), method.index, cohort, now))
    }

    /// Releases a place, and hands it on.
    fn end(self: &Arc<Self>, place: &Place) {
        let now = Instant::now();
        self.lock().end(place.method, place.cohort, now - place.began, place.completed, now);
        self.grant(now);
    }

    /// Gives free places to those that wait.
    fn grant(self: &Arc<Self>, now: Instant) {
        // The lock is not held while a waiter is woken, or a place is dropped.
        while let Some((waiter, cohort)) = self.next_waiter(now) {
            let place = Place::new(Arc::clone(self), waiter.method, cohort, now);
            if let Err(Ok(place)) = waiter.sender.send(Ok(place)) {
                place.give_back();
                self.lock().give_back(waiter.method, cohort, now);
            }
        }
    }

    fn next_waiter(&self, now: Instant) -> Option<(Waiter, Cohort)> {
        let mut control = self.lock();
        let waiter = control.next()?;
        let cohort = control.start(waiter.method, now);
        drop(control);
        Some((waiter, cohort))
    }

    /// Returns the state for observers.
    pub(crate) fn overview(&self) -> OverloadOverview {
        self.lock().overview()
    }

    /// Nothing panics under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, AdmissionControl<Waiter>> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
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
            Err(_elapsed) => match self.give_up() {
                Some(refusal) => return Err(refusal),
                // It was granted in this moment.
                None => (&mut self.receiver).await,
            },
        };
        granted.expect("a waiter that leaves the queue is answered")
    }

    fn give_up(&self) -> Option<Refusal> {
        self.overload.lock().give_up(self.ticket)
    }
}

impl Drop for PlaceWait {
    /// Of a call that is cancelled, or whose deadline passes, no waiter is left in the queue. A place that was granted in the
    /// same moment is dropped with the receiver, and so released.
    fn drop(&mut self) {
        self.overload.lock().forget(self.ticket);
    }
}
