//! The model's handler: it waits for events, each of which another thread makes happen.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use shuttle::sync::Mutex;
use tokio::time::Instant;

use crate::call::fair_queue::Flow;
pub(super) use crate::call::running::StopReason;
use crate::overload::admission::Place;
use crate::overload::refusal::Refusal;
use crate::server::state::ServerState;
use crate::stream::call_stream::CallStream;

/// An event that the handler waits for.
#[derive(Default)]
pub(super) struct Event(Mutex<Events>);

#[derive(Default)]
struct Events {
    happened: usize,
    seen: usize,
    waker: Option<Waker>,
}

impl Event {
    /// Makes one event happen, and wakes the handler.
    pub(super) fn happen(&self) {
        let mut events = self.0.lock().unwrap();
        events.happened += 1;
        let waker = events.waker.take();
        drop(events);
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn seen(&self) -> usize {
        self.0.lock().unwrap().seen
    }

    /// Sees one event, or registers the waker, as a channel does.
    fn poll_next(&self, cx: &Context<'_>) -> Poll<()> {
        let mut events = self.0.lock().unwrap();
        if events.seen < events.happened {
            events.seen += 1;
            return Poll::Ready(());
        }
        events.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Takes the place of the call's handler, with the same methods.
pub(super) struct RunningHandler {
    server: Arc<ServerState>,
    event: Arc<Event>,
    /// The events to wait for.
    left: usize,
    /// For each of the next polls, whether it is made by the pool; then none is.
    slow: &'static [bool],
    ended: Arc<Mutex<Option<StopReason>>>,
}

impl RunningHandler {
    pub(super) const fn new(
        server: Arc<ServerState>,
        event: Arc<Event>,
        left: usize,
        slow: &'static [bool],
        ended: Arc<Mutex<Option<StopReason>>>,
    ) -> Self {
        Self { server, event, left, slow, ended }
    }

    pub(super) const fn server(&self) -> &Arc<ServerState> {
        &self.server
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        None
    }

    pub(super) const fn first_item_limit(&self) -> Option<(Instant, Arc<CallStream>)> {
        None
    }

    /// The model's calls wait for no place.
    pub(super) fn enter(&mut self, granted: Result<Place, Refusal>) -> bool {
        granted.map(drop).is_ok()
    }

    pub(super) const fn flow(&self) -> Flow {
        Flow { peer: 0, client: 1, method: 0 }
    }

    pub(super) fn is_slow(&self) -> bool {
        self.slow.first().copied().unwrap_or(false)
    }

    pub(super) const fn is_short(&self) -> bool {
        false
    }

    pub(super) const fn poll_turn(&mut self, _: &Context<'_>, _: &mut bool) -> Poll<()> {
        Poll::Ready(())
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.slow = self.slow.get(1..).unwrap_or_default();
        while self.left > 0 {
            if self.event.poll_next(cx).is_pending() {
                return Poll::Pending;
            }
            self.left -= 1;
        }
        Poll::Ready(())
    }

    pub(super) fn poll_offloaded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx)
    }

    pub(super) fn finish(self, reason: StopReason) {
        let before = self.ended.lock().unwrap().replace(reason);
        assert_eq!(before, None, "a call ends once");
    }
}
