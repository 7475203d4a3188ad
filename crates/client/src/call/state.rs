//! A call on its way to an answer: sent at once where that can be, else by [`attempts`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use farcall_discovery::PickRequest;
use farcall_protocol::{Code, Execution};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::call::attempts::Attempts;
use crate::call::request::{Ready, Request};
use crate::call::retry;
use crate::call::retry_policy::Kind;
use crate::call::span::{CallSpan, Spanned, is_wanted, within};
use crate::channel::{Inner, Targets};
use crate::connection::response::Answer;
use crate::connection::{NotSent, Pending};
use crate::endpoints::Visit;
use crate::error::{Phase, RpcError};

/// A call, from when it is described to its end.
pub(crate) struct Calling {
    /// What is asked for. It stays here while the call is under way, for a further try.
    request: Request,
    inner: Arc<Inner>,
    stage: Stage,
}

/// How far a call has got.
enum Stage {
    /// It is described.
    PickRequest,
    /// It was sent at once, as most are.
    Sent(Sent),
    /// It waits for a connection or a place, or is tried again.
    Slow(Pin<Box<dyn Future<Output = Result<Answer, RpcError>> + Send>>),
    /// It failed before it began.
    Failed(RpcError),
    /// It has ended.
    Over,
}

/// A request that was sent and not yet answered.
pub(crate) struct Sent {
    pending: Pending,
    /// Where it went, if there are several to go to.
    visit: Option<Visit>,
}

/// Why a request was not sent at once.
enum NotAtOnce {
    /// It has to wait for something, there if that was chosen.
    At(Option<Visit>),
    /// It never will be.
    Failed(RpcError),
}

impl Calling {
    #[inline]
    pub(crate) const fn new(request: Request, inner: Arc<Inner>) -> Self {
        Self { request, inner, stage: Stage::PickRequest }
    }

    /// What is asked for, as long as nothing is under way.
    pub(crate) const fn asked(&mut self) -> Option<&mut Request> {
        match self.stage {
            Stage::PickRequest => Some(&mut self.request),
            _ => None,
        }
    }

    /// The method, as long as nothing is under way.
    pub(crate) fn method(&self) -> Option<&str> {
        matches!(self.stage, Stage::PickRequest).then(|| self.request.method())
    }

    /// What was asked for, and of whom, to be asked otherwise; none where it is under way.
    pub(crate) fn take_asked(&mut self) -> Option<(Request, Arc<Inner>)> {
        let request = std::mem::take(self.asked()?);
        self.stage = Stage::Over;
        Some((request, Arc::clone(&self.inner)))
    }

    /// Begins the call, unless that was done, and lets it get on without being polled.
    pub(crate) fn start(&mut self) {
        match self.stage {
            Stage::PickRequest => self.begin_seen(|calling| {
                calling.begin_unseen(None);
                calling.detach();
            }),
            _ => self.detach(),
        }
    }

    /// Sends the call at once, where there is a connection with a free place. Then its end wakes
    /// `waker`; otherwise it is to be polled.
    fn begin(&mut self, waker: &Waker) {
        if is_wanted() {
            self.begin_seen(|calling| calling.begin_unseen(Some(waker)));
        } else {
            self.begin_unseen(Some(waker));
        }
    }

    /// Begins a call within its span, if it gets one. It has no stage of its own, which would make
    /// polling recursive; and it is kept out of the way of calls that nobody listens to.
    #[cold]
    #[inline(never)]
    fn begin_seen(&mut self, begin: impl FnOnce(&mut Self)) {
        let Some(span) = CallSpan::open(&mut self.request) else { return begin(self) };
        let mut seen = Self::new(std::mem::take(&mut self.request), Arc::clone(&self.inner));
        span.in_scope(|| begin(&mut seen));
        self.stage = Stage::Slow(Box::pin(Spanned::new(span, seen)));
    }

    fn begin_unseen(&mut self, waker: Option<&Waker>) {
        if let Err(error) = self.request.prepare() {
            self.stage = Stage::Failed(error);
            return;
        }
        self.inner.budget.deposit();
        match Sent::at_once(self.request.prepared(), &self.inner, waker) {
            Ok(sent) => self.stage = Stage::Sent(sent),
            Err(NotAtOnce::Failed(error)) => {
                self.stage = Stage::Failed(error.of(self.request.prepared().take_method()));
            }
            Err(NotAtOnce::At(visit)) => self.slow_down(Attempts::to(visit), None),
        }
    }

    /// The call from here on; `error` is that of the first try, if one was made.
    fn slow_down(&mut self, attempts: Attempts, error: Option<RpcError>) {
        let ready = std::mem::take(self.request.prepared());
        let inner = Arc::clone(&self.inner);
        self.stage = Stage::Slow(Box::pin(async move { attempts.run(ready, &inner, error.map(Err)).await }));
    }

    /// Lets the call get on without being polled.
    fn detach(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Slow(future) => {
                let task = AbortOnDrop(tokio::spawn(future.in_current_span()));
                Stage::Slow(Box::pin(task.join()))
            }
            other => other,
        };
    }

    /// Ends a call that was sent, unless it is made again: then there is no outcome yet.
    fn end(&mut self, outcome: Result<Answer, RpcError>) -> Option<Result<Answer, RpcError>> {
        // It has ended, however long this is kept.
        let Stage::Sent(Sent { visit, .. }) = std::mem::replace(&mut self.stage, Stage::Over) else {
            unreachable!("it was sent");
        };
        let ready = self.request.prepared();
        match outcome {
            Err(error) if retry::is_thinkable(&error, ready) => {
                self.slow_down(Attempts::at(visit), Some(error));
                None
            }
            // Most failures are final: they cost no further future.
            last => {
                if last.is_err() {
                    self.inner.failed();
                }
                Some(Answer::named(last, ready.take_method()))
            }
        }
    }
}

impl Future for Calling {
    type Output = Result<Answer, RpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Stage::PickRequest = self.stage {
            self.begin(cx.waker());
            if let Stage::Sent(_) = self.stage {
                // Its end wakes this task, which need not ask for it before.
                return Poll::Pending;
            }
        }
        if let Stage::Sent(sent) = &mut self.stage {
            let outcome = ready!(Pin::new(sent).poll(cx));
            if let Some(outcome) = self.end(outcome) {
                return Poll::Ready(outcome);
            }
        }
        if let Stage::Slow(future) = &mut self.stage {
            return future.as_mut().poll(cx);
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Failed(error) => Poll::Ready(Err(error)),
            _ => panic!("polled after it was ready"),
        }
    }
}

impl Sent {
    /// Sends a request if it can be done at once.
    fn at_once(ready: &Ready, inner: &Inner, waker: Option<&Waker>) -> Result<Self, NotAtOnce> {
        let (connection, visit) = match &inner.targets {
            Targets::One(links) => (links.ready(), None),
            // What may be sent twice needs a clock.
            Targets::Many(_)
                if ready.is_idempotent() && matches!(inner.retry(ready).kind, Kind::Backup(_)) =>
            {
                (None, None)
            }
            Targets::Many(endpoints) => {
                let key = ready.key(endpoints.key(), &inner.codec);
                let visit = endpoints.pick(&PickRequest::new(key.as_deref(), &[]));
                (visit.as_ref().and_then(Visit::ready), visit)
            }
        };
        let Some(connection) = connection else { return Err(NotAtOnce::At(visit)) };
        let packed = ready.pack(&connection).map_err(NotAtOnce::Failed)?;
        match connection.try_send(&packed.outgoing(ready), waker) {
            Ok(pending) => Ok(Self { pending, visit }),
            Err((NotSent::NoPlace | NotSent::NoRoom | NotSent::Closed, _)) => Err(NotAtOnce::At(visit)),
            Err((why, connection)) => {
                Err(NotAtOnce::Failed(ready.not_sent(&why, Phase::Prepare, &connection)))
            }
        }
    }

    pub(super) const fn new(pending: Pending, visit: Option<Visit>) -> Self {
        Self { pending, visit }
    }
}

impl Future for Sent {
    type Output = Result<Answer, RpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { pending, visit } = &mut *self;
        let outcome = ready!(Pin::new(pending).poll(cx));
        if let Some(visit) = visit {
            visit.learn(outcome.as_ref().err());
        }
        Poll::Ready(outcome)
    }
}

/// Sends a request that nobody waits for.
pub(crate) async fn notify(mut request: Request, inner: &Inner) -> Result<(), RpcError> {
    let span = CallSpan::open(&mut request);
    within(span, async {
        let ready = request.ready()?.one_way();
        inner.budget.deposit();
        Attempts::default().notify(ready, inner).await
    })
    .await
}

impl Inner {
    /// Makes the call once, where there is one endpoint.
    pub(crate) async fn call_once(&self, ready: &Ready) -> Result<Answer, RpcError> {
        let outcome = Attempts::default().once(ready, self).await;
        outcome.inspect_err(|_| self.failed())
    }
}

/// A call in a task of its own, which ends with its handle.
struct AbortOnDrop(JoinHandle<Result<Answer, RpcError>>);

impl AbortOnDrop {
    async fn join(mut self) -> Result<Answer, RpcError> {
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
    /// Whoever started the call has gone: dropping what the task holds cancels it.
    fn drop(&mut self) {
        self.0.abort();
    }
}
