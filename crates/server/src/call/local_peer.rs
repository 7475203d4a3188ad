//! [`LocalPeer`]: the caller's side of a streaming call that was made in this process, which takes the place of a
//! connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use farcall_protocol::Body;
use farcall_protocol::time::{MAX_WAIT, later};
use futures::task::AtomicWaker;
use tokio::time::{Instant, sleep_until};

use super::in_flight::InFlightCalls;
use crate::memory_budget::MemoryReservation;
use crate::service::handler::Response;
use crate::stream::call_stream::{CallStream, Cut};

/// The caller's side of a streaming call. The call's permit ends it, and the caller takes what comes.
pub(crate) struct LocalPeer {
    stream: Arc<CallStream>,
    calls: Arc<InFlightCalls>,
    /// `None` until the call has ended.
    outcome: Mutex<Option<Outcome>>,
    wakers: Arc<LocalWakers>,
}

/// The rest of a call that has ended. What the queue of a stream may hold bounds its items.
struct Outcome {
    items: VecDeque<Body>,
    /// `None` once it was taken.
    response: Option<Response>,
    /// The bytes of both.
    _reservation: MemoryReservation,
}

/// The tasks that wait for the stream.
#[derive(Default)]
struct LocalWakers {
    /// Takes items and the response.
    caller: AtomicWaker,
    /// Watches for stalls, since the caller may not be polled while it takes nothing.
    watch: AtomicWaker,
}

/// An item of a streaming call, or the response behind the last one.
#[derive(Debug)]
#[non_exhaustive]
pub enum InvokedEvent {
    /// An encoded item.
    Item(Bytes),
    /// The response, behind the last item.
    Response(Response),
}

impl LocalPeer {
    pub(crate) fn new(stream: Arc<CallStream>, calls: Arc<InFlightCalls>) -> Arc<Self> {
        let wakers = Arc::<LocalWakers>::default();
        // It is woken by each wake-up, and keeps the tasks itself.
        stream.streams.register(&Waker::from(Arc::clone(&wakers)));
        Arc::new(Self { stream, calls, outcome: Mutex::new(None), wakers })
    }

    pub(crate) const fn stream(&self) -> &Arc<CallStream> {
        &self.stream
    }

    pub(super) const fn calls(&self) -> &Arc<InFlightCalls> {
        &self.calls
    }

    /// Ends the call: what its handler has sent comes before the response.
    pub(crate) fn finish(&self, response: Response) {
        let items = self.stream.take_rest();
        let mut reservation = self.calls.memory().reserve();
        reservation.resize(items.iter().map(Body::len).sum::<usize>() + response.body.len());
        *self.lock() = Some(Outcome { items, response: Some(response), _reservation: reservation });
        self.wakers.wake_by_ref();
    }

    /// Takes the next item, or the response behind the last; `None` behind that.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<InvokedEvent>> {
        self.register(&self.wakers.caller, cx);
        if let Some(item) = self.stream.streams.take_sent() {
            return Poll::Ready(Some(InvokedEvent::Item(item.into_bytes())));
        }
        // Behind that: the items that are left when the call ends are moved into its outcome.
        let mut state = self.lock();
        let Some(outcome) = &mut *state else { return Poll::Pending };
        if let Some(item) = outcome.items.pop_front() {
            return Poll::Ready(Some(InvokedEvent::Item(item.into_bytes())));
        }
        Poll::Ready(outcome.response.take().map(InvokedEvent::Response))
    }

    /// Gives up the call if an item waits too long for the caller. Ends with the call.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut timer = std::pin::pin!(sleep_until(Instant::now()));
        std::future::poll_fn(|cx| {
            self.register(&self.wakers.watch, cx);
            loop {
                if self.lock().is_some() {
                    return Poll::Ready(());
                }
                let now = Instant::now();
                let (expired, next) = self.stream.streams.check_stalls(now);
                for seq in expired {
                    self.calls.cut(seq, Cut::Stalled);
                }
                timer.as_mut().reset(next.unwrap_or_else(|| later(now, MAX_WAIT)));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    fn register(&self, slot: &AtomicWaker, cx: &Context<'_>) {
        slot.register(cx.waker());
        // A wake-up takes it.
        self.stream.streams.register(&Waker::from(Arc::clone(&self.wakers)));
    }

    /// No user code runs under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, Option<Outcome>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for LocalWakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.caller.wake();
        self.watch.wake();
    }
}
