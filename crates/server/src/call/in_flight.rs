//! [`InFlightCalls`]: the calls of one connection that have tasks, and the responses they leave.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_context::ConnectionInfo;
use farcall_protocol::{Outbox, Seq};
use futures::stream::AbortHandle;
use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::service::method::Method;

/// The state that a connection's task shares with the tasks of its calls.
#[derive(Debug, Default)]
pub(crate) struct InFlightCalls {
    state: Mutex<State>,
    /// The size of `State::calls`, to be read without the lock.
    in_flight: AtomicUsize,
    /// `true` if `State::responses` may not be empty, to be read without the lock.
    has_responses: AtomicBool,
    signal: AtomicU8,
    /// The time of its longest offloaded poll, in microseconds; shorter ones make it forgotten by and by. 0 before
    /// the first.
    longest_poll: AtomicU64,
    /// The connection's task.
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// Bounded by the `max_in_flight` of the connection.
    calls: HashMap<Seq, InFlightCall>,
    /// Bounded by `calls`: each leaves at most one response, and the connection takes no new request
    /// while its outbox is full.
    responses: Outbox,
    /// `true` once responses are no longer sent.
    closed: bool,
    /// `true` once the server's stop has aborted all calls.
    aborted: bool,
}

/// A call that has a task.
#[derive(Clone, Debug)]
pub(crate) struct InFlightCall {
    pub(crate) method: Arc<Method>,
    pub(crate) from: Arc<ConnectionInfo>,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) abort: AbortHandle,
}

/// A request of the server to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Signal {
    /// Keep serving.
    Run = 0,
    /// Send goaway, finish, close.
    Drain = 1,
    /// Close now.
    Stop = 2,
}

impl InFlightCalls {
    /// Adds a call, which is in flight until [`InFlightCalls::end`].
    pub(crate) fn begin(&self, seq: Seq, call: InFlightCall) {
        let mut state = self.lock();
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        if state.aborted {
            call.abort.abort();
        }
        state.calls.insert(seq, call);
    }

    /// Removes a call whose handler has ended. `respond` appends its response; it is not called if
    /// the connection is closed.
    pub(crate) fn end(&self, seq: Seq, respond: impl FnOnce(&mut Outbox)) {
        let mut state = self.lock();
        state.calls.remove(&seq);
        if !state.closed {
            respond(&mut state.responses);
            self.has_responses.store(true, Ordering::Relaxed);
        }
        // After the response: a connection that finds no call in flight closes unless it sees one.
        self.in_flight.fetch_sub(1, Ordering::Release);
        drop(state);
        self.waker.wake();
    }

    /// Returns the number of calls in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Returns the calls in flight, in no order.
    pub(crate) fn list(&self) -> Vec<InFlightCall> {
        self.lock().calls.values().cloned().collect()
    }

    /// Returns `true` if no call is in flight and no response is left to be taken.
    pub(crate) fn is_idle(&self) -> bool {
        // In this order: see `end`.
        self.in_flight() == 0 && !self.has_responses()
    }

    /// Aborts a call, if it is in flight. It ends, and is answered, when its handler has ended.
    pub(crate) fn cancel(&self, seq: Seq) {
        if let Some(call) = self.lock().calls.get(&seq) {
            call.abort.abort();
        }
    }

    /// Aborts all calls, and those that are still added. They end, and are answered, when their
    /// handlers have ended.
    pub(crate) fn abort_all(&self) {
        let mut state = self.lock();
        state.aborted = true;
        state.calls.values().for_each(|call| call.abort.abort());
    }

    /// Aborts all calls, and drops their responses.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.calls.values().for_each(|call| call.abort.abort());
        let responses = std::mem::take(&mut state.responses);
        drop(state);
        // After unlocking: a body may be user memory whose `Drop` runs arbitrary code.
        drop(responses);
    }

    /// Returns why a call was cancelled, for its response.
    pub(crate) fn cancel_reason(&self) -> &'static str {
        if self.lock().aborted { "the server was stopped" } else { "its caller cancelled it" }
    }

    /// Returns `true` if there are responses to be taken.
    pub(crate) fn has_responses(&self) -> bool {
        self.has_responses.load(Ordering::Acquire)
    }

    /// Records the time of an offloaded poll.
    pub(crate) fn offloaded(&self, worked: Duration) {
        let worked = u64::try_from(worked.as_micros()).unwrap_or(u64::MAX);
        // Of two that race, one may be lost. A long one counts for about a hundred short ones.
        let longest = self.longest_poll.load(Ordering::Relaxed);
        self.longest_poll.store(worked.max(longest - longest / 64).max(1), Ordering::Relaxed);
    }

    /// Assumes that the first offloaded poll is as short as those before, which were made on the connection's task.
    pub(crate) fn assume_short_polls(&self) {
        let _ = self.longest_poll.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns `true` if offloaded polls are known to take at most `limit`.
    pub(crate) fn offloads_are_within(&self, limit: Duration) -> bool {
        let longest = self.longest_poll.load(Ordering::Relaxed);
        longest > 0 && u128::from(longest) <= limit.as_micros()
    }

    /// Moves the responses into `outbox`.
    pub(crate) fn take_responses(&self, outbox: &mut Outbox) {
        if self.has_responses.swap(false, Ordering::Acquire) {
            outbox.append(&mut self.lock().responses);
        }
    }

    /// Registers the connection's task, to be woken by responses and signals.
    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Sends the connection a signal. A signal is never taken back.
    pub(crate) fn signal(&self, signal: Signal) {
        self.signal.fetch_max(signal as u8, Ordering::Release);
        self.waker.wake();
    }

    /// Returns the last signal.
    pub(crate) fn signalled(&self) -> Signal {
        match self.signal.load(Ordering::Acquire) {
            0 => Signal::Run,
            1 => Signal::Drain,
            _ => Signal::Stop,
        }
    }

    /// No user code runs under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
