//! A call on its way to an answer: connecting, waiting for a place, and further tries.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use farcall_protocol::{Code, Execution};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use crate::answer::Answer;
use crate::channel::Inner;
use crate::connection::{Connection, NotSent, Outgoing, Pending};
use crate::error::{Phase, RpcError};
use crate::request::{Ready, Request};

/// The most tries of one call, the first included.
const MAX_TRIES: u32 = 3;

/// A call on its way.
pub(crate) enum Calling {
    /// It was sent at once, as most are. What a further try would need is kept.
    Sent { pending: Pending, ready: Option<Box<Ready>>, inner: Arc<Inner> },
    /// It waits for a connection or a place, or is tried again.
    Slow(Pin<Box<dyn Future<Output = Result<Answer, RpcError>> + Send>>),
    /// It failed before it began.
    Failed(Option<RpcError>),
}

impl Calling {
    /// Begins a call: sends it at once, where there is a connection with a free place.
    pub(crate) fn begin(request: Request, inner: Arc<Inner>) -> Self {
        let ready = match request.ready() {
            Ok(ready) => Box::new(ready),
            Err(error) => return Self::Failed(Some(error)),
        };
        match inner.link.ready().map(|connection| ready.try_send(&connection)) {
            Some(Ok(Some(pending))) => Self::Sent { pending, ready: Some(ready), inner },
            Some(Err(error)) => Self::Failed(Some(error)),
            Some(Ok(None)) | None => Self::slow(ready, inner, 1, None),
        }
    }

    /// The call from its try number `attempt` on; `before` is how the last one failed.
    fn slow(ready: Box<Ready>, inner: Arc<Inner>, attempt: u32, before: Option<RpcError>) -> Self {
        Self::Slow(Box::pin(async move { ready.call(&inner, attempt, before).await }))
    }

    /// Lets the call get on without being polled.
    pub(crate) fn detach(self) -> Self {
        match self {
            Self::Slow(future) => {
                let task = AbortOnDrop(tokio::spawn(future));
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
                Self::Sent { pending, ready, inner } => {
                    let answered = ready!(Pin::new(&mut *pending).poll(cx));
                    let error = match answered.and_then(|message| Answer::new(message, pending.connection()))
                    {
                        Ok(answer) => return Poll::Ready(Ok(answer)),
                        Err(error) => error,
                    };
                    let mut ready = ready.take().expect("taken only when the future ends or changes");
                    let mut attempt = 1;
                    if !ready.tries_again(&mut attempt, &error) {
                        return Poll::Ready(Err(error));
                    }
                    let slow = Self::slow(ready, Arc::clone(inner), attempt, Some(error));
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

/// Sends a request that nobody waits for.
pub(crate) async fn notify(request: Request, inner: &Inner) -> Result<(), RpcError> {
    let mut ready = request.ready()?.one_way();
    let mut attempt = 1;
    loop {
        let sent = ready
            .send(inner, async |connection, outgoing, phase| connection.send_one_way(outgoing, phase).await);
        match sent.await {
            Err(error) if ready.tries_again(&mut attempt, &error) => {}
            outcome => return outcome,
        }
    }
}

impl Ready {
    /// Sends the request if it can be done at once; none if it has to wait for something.
    fn try_send(&self, connection: &Connection) -> Result<Option<Pending>, RpcError> {
        let packed = self.pack(connection)?;
        match connection.try_send(&packed.outgoing(self)) {
            Ok(pending) => Ok(Some(pending)),
            Err(NotSent::NoPlace | NotSent::NoRoom | NotSent::Closed) => Ok(None),
            Err(error) => Err(self.not_sent(&error, Phase::Prepare, connection)),
        }
    }

    /// Makes the call, from its try number `attempt` on, until it is answered or tried enough.
    async fn call(
        mut self: Box<Self>,
        inner: &Inner,
        mut attempt: u32,
        mut before: Option<RpcError>,
    ) -> Result<Answer, RpcError> {
        loop {
            let error = match self.attempt(inner).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = self.tries_again(&mut attempt, &error);
            let error = told(before.take(), error);
            if !again {
                return Err(error);
            }
            before = Some(error);
        }
    }

    async fn attempt(&self, inner: &Inner) -> Result<Answer, RpcError> {
        let sent =
            self.send(inner, async |connection, outgoing, phase| connection.send(outgoing, phase).await);
        let mut pending = sent.await?;
        let message = (&mut pending).await?;
        Answer::new(message, pending.connection())
    }

    /// Has `send` send the request over a connection, all of it before the deadline.
    async fn send<T>(
        &self,
        inner: &Inner,
        send: impl AsyncFnOnce(&Connection, &Outgoing<'_>, &mut Phase) -> Result<T, NotSent>,
    ) -> Result<T, RpcError> {
        let mut phase = Phase::Connect;
        let steps = async {
            let connection = inner.link.connection().await?;
            let packed = self.pack(&connection)?;
            phase = Phase::Queue;
            let sent = send(&connection, &packed.outgoing(self), &mut phase).await;
            sent.map_err(|why| self.not_sent(&why, phase, &connection))
        };
        let Some(deadline) = self.deadline else { return steps.await };
        match timeout_at(deadline.at, steps).await {
            Ok(result) => result,
            Err(_elapsed) => Err(self.out_of_time(phase).at(inner.link.endpoint())),
        }
    }

    /// Whether to try once more after the try number `attempt`, which counts up if so.
    ///
    /// The place for more: other endpoints, a budget.
    fn tries_again(&mut self, attempt: &mut u32, error: &RpcError) -> bool {
        if *attempt >= MAX_TRIES || !may_try_again(error, self.is_idempotent()) {
            return false;
        }
        *attempt += 1;
        self.mark(*attempt);
        true
    }
}

/// The error that a call ends with after a further try: a try that came to nothing takes back
/// nothing of what an earlier one may have done.
fn told(before: Option<RpcError>, error: RpcError) -> RpcError {
    let undone = matches!(error.execution(), Execution::NotSent | Execution::Refused);
    match before {
        Some(before) if undone && before.execution() == Execution::Maybe => before,
        _ => error,
    }
}

/// Whether the same call may be made again: nothing of it was done, or it may be done twice;
/// nothing was wrong with it, and another connection can do better.
fn may_try_again(error: &RpcError, idempotent: bool) -> bool {
    let undone = match error.execution() {
        Execution::NotSent | Execution::Refused => true,
        Execution::Maybe => idempotent,
        Execution::Done => false,
    };
    // What could not be connected to rests for a while, so that trying at once would be in vain.
    let connected = matches!(error.phase(), Phase::Queue | Phase::Write | Phase::Wait);
    undone && connected && error.code() == Code::Unavailable
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
