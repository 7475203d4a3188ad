//! The calls of one connection that run in tasks of their own, and the answers they leave.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farcall_context::ConnectionInfo;
use farcall_protocol::{Outbox, Seq};
use futures::stream::AbortHandle;
use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::service::method::Method;

/// What the connection's task and the tasks of its calls share.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    state: Mutex<State>,
    /// The size of `State::running`, to be read without the lock.
    running: AtomicUsize,
    /// Whether `State::answers` may hold something, to be read without the lock.
    answered: AtomicBool,
    signal: AtomicU8,
    /// The connection's task.
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// Bounded by the `max_in_flight` of the connection.
    running: HashMap<Seq, Running>,
    /// Bounded by `running`: each call leaves at most one answer, and the connection takes no
    /// new call while its outbox is full.
    answers: Outbox,
    /// Whether nobody takes answers any more.
    closed: bool,
    /// Whether the server's stop has run out of patience.
    cut: bool,
}

/// A call under way, for whoever stops it or looks at it.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) method: Arc<Method>,
    pub(crate) from: Arc<ConnectionInfo>,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) abort: AbortHandle,
}

/// What the server asks of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Signal {
    /// Go on.
    None = 0,
    /// Say goaway, finish, close.
    Drain = 1,
    /// Close now.
    Stop = 2,
}

impl Calls {
    /// Begins a call: from here on it has a place, until [`Calls::end`].
    pub(crate) fn begin(&self, seq: Seq, call: Running) {
        let mut state = self.lock();
        self.running.fetch_add(1, Ordering::Relaxed);
        if state.cut {
            call.abort.abort();
        }
        state.running.insert(seq, call);
    }

    /// Ends a call: its handler has really ended. `answer` appends what there is to say; it is
    /// not called where nobody listens any more.
    pub(crate) fn end(&self, seq: Seq, answer: impl FnOnce(&mut Outbox)) {
        let mut state = self.lock();
        state.running.remove(&seq);
        if !state.closed {
            answer(&mut state.answers);
            self.answered.store(true, Ordering::Relaxed);
        }
        // After the answer: a connection that finds nothing running closes unless it sees one.
        self.running.fetch_sub(1, Ordering::Release);
        drop(state);
        self.waker.wake();
    }

    /// How many calls run.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// The calls that run, in no order.
    pub(crate) fn list(&self) -> Vec<Running> {
        self.lock().running.values().cloned().collect()
    }

    /// Whether no call runs and no answer is left to be taken.
    pub(crate) fn is_idle(&self) -> bool {
        // In this order: see `end`.
        self.running() == 0 && !self.has_answers()
    }

    /// Stops a call, if it runs. It ends, and is answered, when its handler has ended.
    pub(crate) fn cancel(&self, seq: Seq) {
        if let Some(call) = self.lock().running.get(&seq) {
            call.abort.abort();
        }
    }

    /// Stops all calls, and those that are still begun. They end, and are answered, when their
    /// handlers have ended.
    pub(crate) fn cut(&self) {
        let mut state = self.lock();
        state.cut = true;
        state.running.values().for_each(|call| call.abort.abort());
    }

    /// Stops all calls, and drops what they still answer.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.running.values().for_each(|call| call.abort.abort());
        let answers = std::mem::take(&mut state.answers);
        drop(state);
        // A body may be memory of the user's, with a drop of its own.
        drop(answers);
    }

    /// On whose behalf a call was stopped, for the answer.
    pub(crate) fn why_cancelled(&self) -> &'static str {
        if self.lock().cut { "the server was stopped" } else { "its caller cancelled it" }
    }

    /// Whether there are answers to be taken.
    pub(crate) fn has_answers(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// Moves the answers into `outbox`.
    pub(crate) fn take_answers(&self, outbox: &mut Outbox) {
        if self.answered.swap(false, Ordering::Acquire) {
            outbox.append(&mut self.lock().answers);
        }
    }

    /// Has the connection's task woken by answers and signals.
    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Asks something of the connection. What was asked is never taken back.
    pub(crate) fn signal(&self, signal: Signal) {
        self.signal.fetch_max(signal as u8, Ordering::Release);
        self.waker.wake();
    }

    /// What was asked of the connection.
    pub(crate) fn signalled(&self) -> Signal {
        match self.signal.load(Ordering::Acquire) {
            0 => Signal::None,
            1 => Signal::Drain,
            _ => Signal::Stop,
        }
    }

    /// No code of a user's runs under this lock, so that nothing in it can be half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
