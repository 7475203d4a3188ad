//! A call on its way to an answer: sent at once where that can be, else by [`attempts`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use farcall_discovery::Asked;
use farcall_protocol::{Code, Execution};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use self::attempts::Attempts;
use crate::answer::Answer;
use crate::channel::{Inner, Targets};
use crate::connection::{Connection, NotSent, Pending};
use crate::endpoints::Visit;
use crate::error::{Phase, RpcError};
use crate::failure_mode::Kind;
use crate::request::{Ready, Request};
use crate::span::{CallSpan, Spanned, is_wanted, within};

mod again;
mod attempts;
mod reach;

pub(crate) use self::reach::{call_at, call_over};

/// A call on its way.
pub(crate) enum Calling {
    /// It was sent at once, as most are. What a further try would need is kept.
    Sent { sent: Sent, ready: Option<Box<Ready>>, inner: Arc<Inner> },
    /// It waits for a connection or a place, or is tried again.
    Slow(Pin<Box<dyn Future<Output = Result<Answer, RpcError>> + Send>>),
    /// It failed before it began.
    Failed(Option<RpcError>),
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
    /// Begins a call: sends it at once, where there is a connection with a free place. `waker` is woken
    /// where that was done, and the call has ended; what is not sent is to be polled.
    pub(crate) fn begin(request: Request, inner: Arc<Inner>, waker: &Waker) -> Self {
        if is_wanted() {
            return Self::begin_seen(request, |request| Self::begin_unseen(request, inner, Some(waker)));
        }
        Self::begin_unseen(request, inner, Some(waker))
    }

    /// The same, and lets the call get on without being polled.
    pub(crate) fn start(request: Request, inner: Arc<Inner>) -> Self {
        Self::begin_seen(request, |request| Self::begin_unseen(request, inner, None).detach())
    }

    /// Begins a call within its span, if it gets one. It has no variant of its own, which would make
    /// polling recursive; and it is kept out of the way of calls that nobody listens to, for that they
    /// were handed through it would cost them more than the rest of what is looked at.
    #[cold]
    #[inline(never)]
    fn begin_seen(mut request: Request, begin: impl FnOnce(Request) -> Self) -> Self {
        match CallSpan::open(&mut request) {
            None => begin(request),
            Some(span) => Self::Slow(Box::pin(Spanned::new(span, || begin(request)))),
        }
    }

    fn begin_unseen(request: Request, inner: Arc<Inner>, waker: Option<&Waker>) -> Self {
        let ready = match request.ready() {
            Ok(ready) => Box::new(ready),
            Err(error) => return Self::Failed(Some(error)),
        };
        inner.budget.deposit();
        match Sent::at_once(&ready, &inner, waker) {
            Ok(sent) => Self::Sent { sent, ready: Some(ready), inner },
            Err(NotAtOnce::Failed(error)) => Self::Failed(Some(error.of(ready.into_method()))),
            Err(NotAtOnce::At(visit)) => Self::slow(ready, inner, Attempts::to(visit), None),
        }
    }

    /// Whether it waits for nothing but its answer.
    pub(crate) const fn is_sent(&self) -> bool {
        matches!(self, Self::Sent { .. })
    }

    /// The call from here on; `error` is that of the first try, if one was made.
    fn slow(ready: Box<Ready>, inner: Arc<Inner>, attempts: Attempts, error: Option<RpcError>) -> Self {
        Self::Slow(Box::pin(async move { attempts.run(*ready, &inner, error.map(Err)).await }))
    }

    /// Lets the call get on without being polled.
    pub(crate) fn detach(self) -> Self {
        match self {
            Self::Slow(future) => {
                let task = AbortOnDrop(tokio::spawn(future.in_current_span()));
                Self::Slow(Box::pin(task.join()))
            }
            other => other,
        }
    }
}

impl Future for Calling {
    type Output = Result<Answer, RpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut *self {
                Self::Sent { sent, ready, inner } => {
                    let outcome = ready!(Pin::new(&mut *sent).poll(cx));
                    let ready = ready.take().expect("taken only when the future ends or changes");
                    // It has ended, however long this is kept.
                    let visit = sent.visit.take();
                    let error = match outcome {
                        Err(error) if again::is_thinkable(&error, &ready) => error,
                        // Most failures are final: they cost no further future.
                        last => {
                            if last.is_err() {
                                inner.failed();
                            }
                            return Poll::Ready(Answer::named(last, ready.into_method()));
                        }
                    };
                    let attempts = Attempts::at(visit);
                    let slow = Self::slow(ready, Arc::clone(inner), attempts, Some(error));
                    *self = slow;
                }
                Self::Slow(future) => return future.as_mut().poll(cx),
                Self::Failed(error) => {
                    return Poll::Ready(Err(error.take().expect("not polled after it was ready")));
                }
            }
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
                if ready.is_idempotent() && matches!(inner.on_failure(ready).kind, Kind::Backup(_)) =>
            {
                (None, None)
            }
            Targets::Many(endpoints) => {
                let key = ready.key(endpoints.key(), &inner.codec);
                let visit = endpoints.pick(&Asked { key: key.as_deref(), tried: &[] });
                (visit.as_ref().and_then(Visit::ready), visit)
            }
        };
        let sent = connection.map_or(Ok(None), |connection| ready.try_send(connection, waker));
        match sent {
            Ok(Some(pending)) => Ok(Self { pending, visit }),
            Ok(None) => Err(NotAtOnce::At(visit)),
            Err(error) => Err(NotAtOnce::Failed(error)),
        }
    }

    const fn new(pending: Pending, visit: Option<Visit>) -> Self {
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

impl Ready {
    /// Sends the request if it can be done at once; none if it has to wait for something.
    fn try_send(&self, connection: Connection, waker: Option<&Waker>) -> Result<Option<Pending>, RpcError> {
        let packed = self.pack(&connection)?;
        match connection.try_send(&packed.outgoing(self), waker) {
            Ok(pending) => Ok(Some(pending)),
            Err((NotSent::NoPlace | NotSent::NoRoom | NotSent::Closed, _)) => Ok(None),
            Err((why, connection)) => Err(self.not_sent(&why, Phase::Prepare, &connection)),
        }
    }
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
