//! The task of one call: it polls the handler while its method is quick, and has it polled by the
//! offload pool while it is slow.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures::stream::{AbortRegistration, Abortable};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout_at;
use tracing::dispatcher::{self, Dispatch};

use super::fair_queue::{Flow, Ticket};
use super::offload::Job;
use super::running::{RunningHandler, StopReason};
use crate::overload::admission::PlaceWait;
use crate::server::state::ServerState;

/// The task of a call whose handler needs more than one poll.
///
/// A slow handler is offloaded for one poll at a time, so that one that waits occupies no thread.
pub(super) struct HandlerTask {
    /// `None` while it is offloaded.
    local: Option<RunningHandler>,
    offloaded: Option<PendingPoll>,
    /// Woken by what the handler waits for since its last offloaded poll.
    woken: Option<Arc<PollWaker>>,
    /// `true` while it waits for a turn of the connection's handlers.
    has_waited: bool,
    /// The wait for a place, before the handler is called.
    wait: Option<PlaceWait>,
}

/// An offloaded poll that is queued or under way.
struct PendingPoll {
    server: Arc<ServerState>,
    ticket: Ticket,
    done: oneshot::Receiver<(RunningHandler, Poll<()>)>,
}

/// One poll of a handler, as a job of the offload pool.
struct OffloadedPoll {
    handler: RunningHandler,
    waker: Waker,
    runtime: Handle,
    /// The `tracing` subscriber of the call's task.
    dispatch: Dispatch,
    done: oneshot::Sender<(RunningHandler, Poll<()>)>,
}

/// Keeps a wake-up that comes while the poll is still under way, which the call's task would
/// otherwise take for the end of the poll.
#[derive(Default)]
struct PollWaker(Notify);

impl HandlerTask {
    pub(super) const fn new(handler: RunningHandler) -> Self {
        Self { local: Some(handler), offloaded: None, woken: None, has_waited: false, wait: None }
    }

    /// Creates the task of a call that waits for a place first.
    pub(super) fn waiting(handler: RunningHandler, wait: PlaceWait) -> Self {
        let mut task = Self::new(handler);
        task.wait = Some(wait);
        task
    }

    /// Polls the handler until it has ended, is aborted, or its deadline has passed; then answers.
    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` has room for each argument twice, where it is given and where it is used"
    )]
    pub(super) fn run(mut self, abort: AbortRegistration) -> impl Future<Output = ()> + Send + 'static {
        async move {
            let deadline = self.local.as_ref().and_then(RunningHandler::deadline);
            let first_item = self.local.as_ref().and_then(RunningHandler::first_item_limit);
            let reason = {
                let mut polling = pin!(Abortable::new(self.poll_to_end(), abort));
                let early = match first_item {
                    Some((limit, stream)) => {
                        match timeout_at(limit.min(deadline.unwrap_or(limit)), &mut polling).await {
                            Err(_elapsed) if stream.first_item().is_some() => None,
                            ended => Some(ended),
                        }
                    }
                    None => None,
                };
                let ended = match (early, deadline) {
                    (Some(ended), _) => ended,
                    (None, Some(deadline)) => timeout_at(deadline, polling).await,
                    (None, None) => Ok(polling.await),
                };
                match ended {
                    Ok(Ok(())) => StopReason::Completed,
                    Ok(Err(_aborted)) => StopReason::Cancelled,
                    Err(_elapsed) => StopReason::DeadlineExceeded,
                }
            };
            self.reclaim().await;
            if reason != StopReason::Completed
                && let Some(handler) = &mut self.local
            {
                // A thousand deadlines may pass at the same moment.
                poll_fn(|cx| handler.poll_turn(cx, &mut self.has_waited)).await;
            }
            if let Some(handler) = self.local.take() {
                handler.finish(reason);
            }
        }
    }

    /// Polls the handler until it has ended. May be dropped at any time; [`HandlerTask::reclaim`] then
    /// returns the handler.
    async fn poll_to_end(&mut self) {
        if let Some(wait) = self.wait.take() {
            let granted = wait.granted().await;
            if !self.local.as_mut().is_some_and(|handler| handler.enter(granted)) {
                return;
            }
        }
        loop {
            let has_ended = poll_fn(|cx| self.poll_local(cx)).await;
            if has_ended || self.poll_offloaded().await.is_ready() {
                return;
            }
            if let Some(woken) = &self.woken {
                woken.0.notified().await;
            }
        }
    }

    /// Takes the handler back when no poll of it is under way any more, since a poll cannot be
    /// interrupted. It is gone if the runtime ended and dropped it.
    async fn reclaim(&mut self) {
        self.cancel_queued();
        let _ = self.offloaded_done().await;
    }

    /// Ready with `true` if the handler has ended, and with `false` if it is too slow for this thread.
    fn poll_local(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(handler) = &mut self.local else { return Poll::Ready(true) };
        if handler.poll_turn(cx, &mut self.has_waited).is_pending() {
            return Poll::Pending;
        }
        if handler.is_slow() { Poll::Ready(false) } else { handler.poll(cx).map(|()| true) }
    }

    /// Has the handler polled once on another thread.
    async fn poll_offloaded(&mut self) -> Poll<()> {
        if let Some(handler) = self.local.take() {
            let server = Arc::clone(handler.server());
            let waker = Waker::from(Arc::clone(self.woken.get_or_insert_default()));
            let (sender, done) = oneshot::channel();
            let dispatch = dispatcher::get_default(Dispatch::clone);
            let poll = OffloadedPoll { handler, waker, runtime: Handle::current(), dispatch, done: sender };
            let ticket = server.offload.enqueue(Box::new(poll), &server.tasks);
            self.offloaded = Some(PendingPoll { server, ticket, done });
        }
        self.offloaded_done().await
    }

    /// Waits for the offloaded poll, if there is one, and takes the handler back.
    async fn offloaded_done(&mut self) -> Poll<()> {
        let Some(PendingPoll { server, done, .. }) = &mut self.offloaded else { return Poll::Ready(()) };
        let result = server.offload.wait(done, &server.tasks).await;
        self.offloaded = None;
        // An error means that the handler was dropped there: it has answered, and is gone.
        let Ok((handler, polled)) = result else { return Poll::Ready(()) };
        self.local = Some(handler);
        polled
    }

    /// Takes the offloaded poll out of the queue if no thread has taken it.
    fn cancel_queued(&self) {
        if let Some(PendingPoll { server, ticket, .. }) = &self.offloaded {
            server.offload.cancel(*ticket);
        }
    }
}

impl Drop for HandlerTask {
    /// Removes a queued poll if the task is dropped first, as by a runtime that ends: no thread may
    /// be left that would take it, and the call would stay in flight.
    fn drop(&mut self) {
        self.cancel_queued();
    }
}

impl Job for OffloadedPoll {
    fn flow(&self) -> Flow {
        self.handler.flow()
    }

    fn is_short(&self) -> bool {
        self.handler.is_short()
    }

    fn run(self: Box<Self>) {
        let Self { mut handler, waker, runtime, dispatch, done } = *self;
        let _subscriber = dispatcher::set_default(&dispatch);
        let mut cx = Context::from_waker(&waker);
        // Polled as a task of the runtime is: with its timers, and with a budget after which even a
        // handler that never waits returns and can be stopped.
        let polled = runtime.block_on(poll_fn(|_| Poll::Ready(handler.poll_offloaded(&mut cx))));
        // If the task was dropped meanwhile, this drops the handler and releases its permit.
        let _ = done.send((handler, polled));
    }

    fn cancel(self: Box<Self>) {
        let Self { handler, done, .. } = *self;
        let _ = done.send((handler, Poll::Pending));
    }
}

impl Wake for PollWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}
