//! [`Link`]: the state that the halves of a streaming call share with the task that makes it.
//!
//! The task opens the stream, makes the call again if that fails before the first item, and leaves the outcome here. The
//! halves take and send items of the stream that is open at the moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use farcall_protocol::stream::{EncodedItem, StreamClosed, StreamSnapshot, TakenItems};
use farcall_protocol::{Body, Code, Execution};
use farcall_runtime::task::AbortHandle;
use farcall_runtime::time::Instant;
use farcall_transport::Address;
use tokio::sync::Notify;

use super::link_state::{LinkState, Outcome, Waiter};
use crate::connection::open_stream::{OpenStream, cancelled};
use crate::connection::streams::Directions;
use crate::deadline::Deadline;
use crate::endpoints::backend::Backend;
use crate::error::RpcError;

/// The state that the halves of a streaming call share with the task that makes it.
pub(crate) struct Link {
    directions: Directions,
    method: Box<str>,
    opened_at: Instant,
    /// When the first item or the response has to be there.
    first_by: Option<Deadline>,
    state: Mutex<LinkState>,
    /// Notified when the server drains, and when the call is over.
    changed: Notify,
}

impl Link {
    pub(super) fn new(method: &str, directions: Directions, first_within: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            directions,
            method: method.into(),
            opened_at: now,
            first_by: first_within.map(|limit| Deadline::after(now, limit)),
            state: Mutex::new(LinkState::new(directions)),
            changed: Notify::new(),
        }
    }

    pub(crate) const fn directions(&self) -> Directions {
        self.directions
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    pub(super) const fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// Returns when the first item or the response has to be there.
    pub(super) const fn first_by(&self) -> Option<Deadline> {
        self.first_by
    }

    /// Returns the endpoint of the stream, while one is open.
    pub(super) fn endpoint(&self) -> Option<Address> {
        Some(self.lock().stream.as_ref()?.endpoint().clone())
    }

    /// Returns the state of the stream; `None` before it is open.
    pub(super) fn snapshot(&self) -> Option<StreamSnapshot> {
        let state = self.lock();
        let (last, stream) = (state.last, state.stream.clone());
        drop(state);
        last.or_else(|| stream?.snapshot())
    }

    /// Returns `true` once the call is over.
    pub(super) fn is_over(&self) -> bool {
        self.lock().outcome.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes those that wait, outside of the lock.
    fn change<T>(&self, waiters: &[Waiter], change: impl FnOnce(&mut LinkState) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        let wakers: [Option<Waker>; 3] = std::array::from_fn(|index| {
            let wanted = waiters.iter().any(|waiter| *waiter as usize == index);
            if wanted { state.wakers[index].take() } else { None }
        });
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
        changed
    }
}

/// The right to make the call of a link, which one request at a time has.
pub(super) struct Pass<'a>(&'a Link);

impl Drop for Pass<'_> {
    /// Gives the right back, so that a layer may pass the request on again after a failure.
    fn drop(&mut self) {
        self.0.lock().is_passed = false;
    }
}

/// The task's side.
impl Link {
    /// Takes the right to make the call.
    ///
    /// # Errors
    ///
    /// Another request of the call is on its way, or the call has begun: a layer passed it on twice.
    pub(super) fn pass(&self) -> Result<Pass<'_>, RpcError> {
        let mut state = self.lock();
        if state.is_passed || state.has_begun {
            let message = format!("`{}` streams: a layer passed its request on twice", self.method);
            return Err(RpcError::not_sent(Code::Internal, message));
        }
        state.is_passed = true;
        Ok(Pass(self))
    }

    /// Remembers the task, which is aborted when the call is cancelled.
    pub(super) fn set_task(&self, task: AbortHandle) {
        let mut state = self.lock();
        if state.outcome.is_none() {
            state.task = Some(task);
        } else {
            drop(state);
            task.abort();
        }
    }

    /// Returns the item with this number that has to be sent again; `None` if all were, or if no number is given: then
    /// `stream` is that of the call from now on.
    pub(super) fn install(&self, replayed: Option<usize>, stream: &Arc<OpenStream>) -> Option<Body> {
        self.change(&[Waiter::Sender, Waiter::Receiver, Waiter::Opener], |state| {
            let item = replayed.and_then(|replayed| state.replay.get(replayed));
            if item.is_none() && state.outcome.is_none() {
                if state.ended {
                    stream.end();
                }
                if state.stopped {
                    stream.stop();
                }
                state.stream = Some(Arc::clone(stream));
            }
            item
        })
    }

    /// Notes the limit that leaves no place for the call; `None` once it has one.
    pub(crate) fn set_full(&self, full: Option<String>) {
        self.lock().full = full;
    }

    /// Returns the limit that leaves no place for the call, while it waits for one.
    pub(super) fn full(&self) -> Option<String> {
        self.lock().full.clone()
    }

    /// Remembers the endpoint of an attempt.
    pub(super) fn set_backend(&self, backend: Option<Arc<Backend>>) {
        self.lock().backend = backend;
    }

    /// Returns the endpoint of the last attempt, if there are several.
    pub(super) fn backend(&self) -> Option<Arc<Backend>> {
        self.lock().backend.clone()
    }

    /// Notes that an item or the response has arrived: from now on the call is not made again.
    pub(super) fn begin(&self) {
        self.change(&[Waiter::Receiver], |state| {
            state.has_begun = true;
            state.replay.forget();
        });
    }

    /// Returns `true` once an item or the response has arrived.
    pub(super) fn has_begun(&self) -> bool {
        self.lock().has_begun
    }

    /// Notes that a request was sent.
    pub(super) fn note_sent(&self) {
        self.lock().was_sent = true;
    }

    /// Returns `true` once a request was sent, unless it was refused.
    pub(super) fn was_sent(&self) -> bool {
        let state = self.lock();
        state.has_begun || state.was_sent || state.may_have_run
    }

    /// Returns `true` if the call may be made again after a failed attempt: nothing has arrived, and all items are kept
    /// that were sent. The stream of the attempt is let go of. `execution` is what its error says.
    pub(crate) fn retry(&self, execution: Execution) -> bool {
        let mut state = self.lock();
        state.was_sent = false;
        state.may_have_run |= execution == Execution::Maybe;
        let is_late = self.first_by.is_some_and(|deadline| deadline.is_over(Instant::now()));
        if is_late || state.has_begun || !state.replay.is_whole() || state.outcome.is_some() {
            return false;
        }
        let stream = state.stream.take();
        drop(state);
        drop(stream);
        true
    }

    /// Notes that the server drains.
    pub(super) fn drain(&self) {
        self.change(&[Waiter::Receiver], |state| state.is_draining = true);
        self.changed.notify_waiters();
    }

    /// Ends the call. Only the first outcome counts.
    pub(super) fn complete(&self, outcome: Outcome) {
        self.change(&[Waiter::Sender, Waiter::Receiver, Waiter::Opener], |state| {
            state.task = None;
            state.end(outcome);
        });
        self.changed.notify_waiters();
    }
}

/// The halves' side.
impl Link {
    /// Waits until the request was sent, or the call is over.
    pub(super) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<Result<(), RpcError>> {
        let mut state = self.lock();
        if let Some(Err(error)) = &state.outcome {
            // What arrived before is taken first.
            if !state.has_begun {
                return Poll::Ready(Err(error.clone()));
            }
        }
        if state.stream.is_some() || state.outcome.is_some() {
            return Poll::Ready(Ok(()));
        }
        state.wait(Waiter::Opener, cx);
        Poll::Pending
    }

    /// Takes the next items, together with their stream. `None` if no more come.
    pub(super) fn poll_items(&self, cx: &mut Context<'_>) -> Poll<Option<(TakenItems, Arc<OpenStream>)>> {
        let mut state = self.lock();
        if state.stopped {
            return Poll::Ready(None);
        }
        if let Some(stream) = state.stream.clone() {
            match stream.poll_items(cx) {
                Poll::Ready(Some(items)) => {
                    if !std::mem::replace(&mut state.has_begun, true) {
                        state.replay.forget();
                    }
                    return Poll::Ready(Some((items, stream)));
                }
                // Its response has come, but it may be made again.
                Poll::Ready(None) if state.outcome.is_some() => return Poll::Ready(None),
                _ => {}
            }
        } else if state.outcome.is_some() {
            return Poll::Ready(None);
        }
        state.wait(Waiter::Receiver, cx);
        Poll::Pending
    }

    /// Waits for the outcome, as the half that is named.
    pub(super) fn poll_outcome(&self, waiter: Waiter, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        state.wait(waiter, cx);
        Poll::Pending
    }

    /// Returns the outcome, if the call is over.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.lock().outcome.clone()
    }

    /// Returns the outcome, if the call is over; otherwise that, or another change, wakes the receiving half.
    pub(super) fn outcome_or_wait(&self, cx: &mut Context<'_>) -> Option<Outcome> {
        match self.poll_outcome(Waiter::Receiver, cx) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    /// Waits for the first item or the outcome: `true` if the call has begun, which it has not if it failed.
    pub(super) fn poll_begun(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        if state.has_begun || state.outcome.is_some() {
            return Poll::Ready(state.has_begun);
        }
        state.wait(Waiter::Receiver, cx);
        Poll::Pending
    }

    /// Waits until an item can be sent. `false` if no more are wanted.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<bool, RpcError>> {
        Self::poll_writable(&mut self.lock(), cx)
    }

    fn poll_writable(state: &mut LinkState, cx: &mut Context<'_>) -> Poll<Result<bool, RpcError>> {
        match &state.outcome {
            Some(Ok(_)) => return Poll::Ready(Ok(false)),
            Some(Err(error)) => return Poll::Ready(Err(error.clone())),
            None => {}
        }
        let polled = state.stream.as_ref().map(|stream| stream.poll_ready(cx));
        match polled {
            Some(Poll::Ready(Ok(()))) => return Poll::Ready(Ok(true)),
            Some(Poll::Ready(Err(StreamClosed::Stopped))) => return Poll::Ready(Ok(false)),
            // Its call has ended: the outcome, or the next attempt, is about to come.
            Some(Poll::Pending | Poll::Ready(Err(StreamClosed::Ended))) | None => {}
        }
        state.wait(Waiter::Sender, cx);
        Poll::Pending
    }

    /// Waits until an item can be sent, and sends it: `item` is taken then. `false` if no more are wanted.
    pub(super) fn poll_send(
        &self,
        item: &mut Option<EncodedItem<'_>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, RpcError>> {
        let mut state = self.lock();
        let wanted = ready!(Self::poll_writable(&mut state, cx))?;
        match item.take_if(|_| wanted) {
            Some(item) => Poll::Ready(state.send(item).map(|()| true)),
            None => Poll::Ready(Ok(wanted)),
        }
    }

    /// Ends a wait of [`Link::poll_ready`] without an item.
    pub(super) fn stop_waiting(&self) {
        let stream = self.lock().stream.clone();
        if let Some(stream) = stream {
            stream.stop_waiting();
        }
    }

    /// Sends an item, after [`Link::poll_ready`].
    pub(super) fn send(&self, item: EncodedItem<'_>) -> Result<(), RpcError> {
        self.lock().send(item)
    }

    /// Says that no more items come.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.ended, true)
            && let Some(stream) = &state.stream
        {
            stream.end();
        }
    }

    /// Says that no more items are taken.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.stopped, true)
            && let Some(stream) = &state.stream
        {
            stream.stop();
        }
    }

    /// Returns `true` if the server drains, or its connection closes.
    pub(super) fn is_draining(&self) -> bool {
        self.lock().is_draining
    }

    /// Waits until the server drains, or the call is over.
    pub(super) async fn draining(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_draining() || self.is_over() {
                return;
            }
            changed.await;
        }
    }

    /// Cancels the call, unless it is over. `error` is what the other half gets.
    pub(super) fn cancel(&self, error: RpcError) {
        let (stream, task) = self.change(&[Waiter::Sender, Waiter::Receiver, Waiter::Opener], |state| {
            if state.outcome.is_some() {
                return (None, None);
            }
            state.end(Err(error));
            (state.stream.take(), state.task.take())
        });
        if let Some(stream) = stream {
            stream.cancel();
        }
        if let Some(task) = task {
            task.abort();
        }
        self.changed.notify_waiters();
    }

    /// Lets go of a half. The call is cancelled if the half is not `done`, or was the last one.
    pub(super) fn drop_half(&self, done: bool) {
        let mut state = self.lock();
        state.halves = state.halves.saturating_sub(1);
        let is_last = state.halves == 0;
        // The items that were not taken.
        let stream = if is_last && state.outcome.is_some() { state.stream.take() } else { None };
        drop(state);
        drop(stream);
        if is_last || !done {
            self.cancel(cancelled());
        }
    }
}
