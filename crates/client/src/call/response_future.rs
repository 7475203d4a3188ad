//! A call on its way to its response: sent at once if possible, otherwise by [`attempts`](super::attempts).

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};

use farcall_discovery::PickRequest;
use farcall_protocol::text::shown_name;
use farcall_protocol::{Code, Execution};
use farcall_runtime::task::JoinHandle;
use farcall_runtime::time::{Instant, timeout_at};
use farcall_transport::HumanDuration;
use tracing::Instrument as _;

use super::attempts::Attempts;
use super::channel_core::{ChannelCore, Targets};
use super::in_flight_call::InFlightCall;
use super::request::Request;
use super::retry::is_retryable;
use super::retry_policy::RetryMode;
use super::send_request::{LayeredFuture, SendRequest};
use super::span::{CallSpan, Spanned, is_enabled, within_span};
use crate::connection::TrySendError;
use crate::connection::response::Response;
use crate::endpoints::guard::InFlightGuard;
use crate::error::{Phase, RpcError};

/// A future for the response to a [`Request`], the future of [`Channel`](crate::Channel) as a
/// [`tower_service::Service`]. The request is sent when the future is first polled; dropping it cancels the call.
#[must_use = "a call is made when its future is polled"]
pub struct ResponseFuture {
    /// Kept while the call is in flight, for retries.
    request: Request,
    core: Arc<ChannelCore>,
    state: CallState,
}

/// The progress of a call.
enum CallState {
    /// Not started.
    Described {
        /// `true` if it goes through the channel's layers first.
        has_layers: bool,
    },
    /// Sent at once, as most calls are.
    InFlight(InFlightCall),
    /// Going through layers, waiting for a connection or a slot, or being retried.
    Boxed(LayeredFuture),
    /// Failed before it was sent.
    Failed(RpcError),
    /// Ended: the outcome was returned.
    Done,
}

/// Reasons why a request was not sent at once.
enum FastPathMiss {
    /// The request has to wait; at the endpoint of the guard, if one was picked.
    MustWait(Option<InFlightGuard>),
    /// The request cannot be sent.
    Failed(RpcError),
}

impl ResponseFuture {
    /// Creates a call that goes through the channel's layers, if there are any.
    #[inline]
    pub(crate) fn new(request: Request, core: Arc<ChannelCore>) -> Self {
        let has_layers = core.layers.is_some();
        Self { request, core, state: CallState::Described { has_layers } }
    }

    /// Creates a call that has left the channel's layers.
    pub(super) const fn without_layers(request: Request, core: Arc<ChannelCore>) -> Self {
        Self { request, core, state: CallState::Described { has_layers: false } }
    }

    /// Returns the method, for errors.
    pub(super) fn method(&self) -> &str {
        self.request.method()
    }

    /// Returns the method, to be named in an error.
    pub(super) fn method_name(&self) -> Cow<'static, str> {
        self.request.method_name()
    }

    /// Starts the call, and lets it make progress without being polled.
    pub(super) fn start(&mut self) {
        match self.state {
            CallState::Described { has_layers } => {
                self.begin_observed(has_layers, |call| {
                    call.begin_untraced(None);
                    call.detach();
                });
                if has_layers {
                    self.detach();
                }
            }
            _ => self.detach(),
        }
    }

    /// Sends the call at once, if there is a connection with a free slot: then the response wakes `waker`.
    /// Otherwise the state has to be polled.
    fn begin(&mut self, has_layers: bool, waker: &Waker) {
        if has_layers || is_enabled() {
            self.begin_observed(has_layers, |call| call.begin_untraced(Some(waker)));
        } else {
            self.begin_untraced(Some(waker));
        }
    }

    /// Begins a call through its layers, or within its span. Kept out of line, since most calls have neither.
    #[cold]
    #[inline(never)]
    fn begin_observed(&mut self, has_layers: bool, begin: impl FnOnce(&mut Self)) {
        if has_layers && let Some(layers) = &self.core.layers {
            self.state = CallState::Boxed(through_layers(&**layers, self.request.take()));
            return;
        }
        let Some(span) = CallSpan::open(&mut self.request) else { return begin(self) };
        // A separate future: a state that contains itself would make polling recursive.
        let mut traced = Self::without_layers(self.request.take(), Arc::clone(&self.core));
        span.in_scope(|| begin(&mut traced));
        self.state = CallState::Boxed(Box::pin(Spanned::new(span, traced)));
    }

    fn begin_untraced(&mut self, waker: Option<&Waker>) {
        if let Err(error) = self.request.start() {
            self.state = CallState::Failed(error);
            return;
        }
        self.core.budget.deposit();
        match try_send(&self.request, &self.core, waker) {
            Ok(call) => self.replace_empty_state(CallState::InFlight(call)),
            Err(FastPathMiss::Failed(error)) => {
                self.core.count_failure(&error);
                self.state = CallState::Failed(error);
            }
            Err(FastPathMiss::MustWait(guard)) => self.continue_boxed(Attempts::starting_at(guard), None),
        }
    }

    /// Replaces a state that has nothing to drop, which the compiler does not see.
    #[inline]
    fn replace_empty_state(&mut self, state: CallState) {
        std::mem::forget(std::mem::replace(&mut self.state, state));
    }

    /// Continues with further attempts; `error` is that of the first one, if it was made.
    fn continue_boxed(&mut self, attempts: Attempts, error: Option<RpcError>) {
        let request = self.request.take();
        let core = Arc::clone(&self.core);
        self.state =
            CallState::Boxed(Box::pin(async move { attempts.run(request, &core, error.map(Err)).await }));
    }

    /// Moves a boxed call into a task, where it makes progress without being polled.
    fn detach(&mut self) {
        self.state = match std::mem::replace(&mut self.state, CallState::Done) {
            CallState::Boxed(future) => {
                let task = AbortOnDrop(farcall_runtime::spawn(future.in_current_span()));
                CallState::Boxed(Box::pin(task.join()))
            }
            other => other,
        };
    }

    /// Ends a call in flight that failed. Returns `None` if it is retried, the error otherwise.
    #[cold]
    fn fail(&mut self, error: RpcError) -> Option<RpcError> {
        let CallState::InFlight(call) = std::mem::replace(&mut self.state, CallState::Done) else {
            unreachable!("only a call in flight is finished");
        };
        self.request.lost_in_flight(&error);
        if is_retryable(&error, self.request.idempotence()) {
            self.continue_boxed(Attempts::after(call.into_guard()), Some(error));
            return None;
        }
        self.request.failed(&error);
        // Most failures are final: they cost no boxed future.
        self.core.count_failure(&error);
        self.request.drop_body();
        Some(error)
    }

    #[inline]
    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response, RpcError>> {
        if let CallState::Described { has_layers } = self.state {
            self.begin(has_layers, cx.waker());
            if let CallState::InFlight(_) = self.state {
                // The response wakes this task, so there is no need to look for it before.
                return Poll::Pending;
            }
        }
        if let CallState::InFlight(call) = &mut self.state {
            match ready!(Pin::new(&mut *call).poll(cx)) {
                Ok(response) => {
                    // Here, so that the call no longer counts, however long this future is kept.
                    call.ended();
                    self.replace_empty_state(CallState::Done);
                    self.request.drop_body();
                    return Poll::Ready(Ok(response));
                }
                Err(error) => {
                    if let Some(last) = self.fail(error) {
                        return Poll::Ready(Err(last));
                    }
                }
            }
        }
        if let CallState::Boxed(future) = &mut self.state {
            return future.as_mut().poll(cx);
        }
        match std::mem::replace(&mut self.state, CallState::Done) {
            CallState::Failed(error) => Poll::Ready(Err(error)),
            _ => panic!("polled after it was ready"),
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response, RpcError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_outcome(cx).map_err(|error| error.of(self.method_name()))
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("method", &self.method()).finish_non_exhaustive()
    }
}

/// Sends a request if that is possible without waiting.
fn try_send(
    request: &Request,
    core: &ChannelCore,
    waker: Option<&Waker>,
) -> Result<InFlightCall, FastPathMiss> {
    let bytes = request.body().len();
    let (connection, guard) = match &core.targets {
        Targets::One(pool) => (pool.ready(bytes), None),
        // A hedged call needs a timer.
        Targets::Many(_)
            if request.is_idempotent() && matches!(core.retry_policy(request).mode, RetryMode::Hedge(_)) =>
        {
            (None, None)
        }
        Targets::Many(endpoints) => {
            let key = request.routing_key(endpoints.key_source(), &core.codec);
            let guard = endpoints.pick(&PickRequest::new(key.as_deref(), &[]));
            (guard.as_ref().and_then(|guard| guard.connection(bytes)), guard)
        }
    };
    let Some(connection) = connection else { return Err(FastPathMiss::MustWait(guard)) };
    let encoded = request.encode(&connection).map_err(FastPathMiss::Failed)?;
    request.sent_over(&connection);
    match connection.try_send(&encoded, waker) {
        Ok(pending) => {
            // Guards measure the latency of their endpoints.
            let timer = if guard.is_none() { core.totals().timer() } else { None };
            Ok(InFlightCall::new(pending, guard, timer))
        }
        Err(error) => {
            request.unsent();
            Err(match error {
                TrySendError::WouldWait => FastPathMiss::MustWait(guard),
                TrySendError::Failed(error) => FastPathMiss::Failed(error),
            })
        }
    }
}

/// Passes a request through the layers. Until they have passed it on, the call's deadline is enforced here.
pub(super) fn through_layers(layers: &dyn SendRequest, mut request: Request) -> LayeredFuture {
    request.set_deadline(Instant::now());
    let left = request.watch_layers();
    let Some(deadline) = request.deadline() else { return layers.send(request) };
    let method = request.method_name();
    let mut call = layers.send(request);
    Box::pin(async move {
        match timeout_at(deadline.at, &mut call).await {
            Ok(outcome) => outcome,
            // The call was sent, and ends by its own deadline.
            Err(_elapsed) if left.load(Ordering::Relaxed) => call.await,
            Err(_elapsed) => {
                let limit = HumanDuration(deadline.limit);
                let method = shown_name(&method);
                let message = format!("`{method}` was not called: no layer passed it on within {limit}");
                let (code, execution) = (Code::DeadlineExceeded, Execution::NotSent);
                Err(RpcError::new(code, execution, Phase::Prepare, message))
            }
        }
    })
}

/// Sends a request that is not answered, through the channel's layers if there are any.
pub(crate) async fn notify(mut request: Request, core: &ChannelCore) -> Result<(), RpcError> {
    request.set_one_way();
    let method = request.method_name();
    let sent = match &core.layers {
        Some(layers) => through_layers(&**layers, request).await,
        None => send_one_way(request, core).await,
    };
    sent.map(drop).map_err(|error| error.of(method))
}

/// Sends a request that is not answered.
pub(super) async fn send_one_way(mut request: Request, core: &ChannelCore) -> Result<Response, RpcError> {
    let span = CallSpan::open(&mut request);
    within_span(span, async {
        request.start()?;
        core.budget.deposit();
        Attempts::default().send_one_way(request, core).await
    })
    .await
}

/// A call in a separate task, aborted when this is dropped.
struct AbortOnDrop(JoinHandle<Result<Response, RpcError>>);

impl AbortOnDrop {
    async fn join(mut self) -> Result<Response, RpcError> {
        match (&mut self.0).await {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => {
                    let message = "the runtime of the call was shut down";
                    Err(RpcError::new(Code::Unavailable, Execution::Maybe, Phase::Wait, message))
                }
            },
        }
    }
}

impl Drop for AbortOnDrop {
    /// Cancels the call, since its caller has dropped it.
    fn drop(&mut self) {
        self.0.abort();
    }
}
