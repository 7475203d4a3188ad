//! [`Execution`]: the first try of a call that is carried out once, which goes on when its caller has gone.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farcall_discovery::Backoff;
use farcall_protocol::{Code, Status};
use farcall_transport::log::{LogThrottle, escaped_panic};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::sleep;
use tracing::error;

use super::answer::decode;
use super::calls::{OnceCalls, other_arguments};
use super::running::Running;
use super::store::Claim;
use crate::service::handler::{Handler, Request, Response};

/// The first pause before a store is asked again if another server has answered.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The first try of a call. It is polled as other handlers are, also where slow ones are, as long as its caller waits;
/// then by a task.
pub(super) struct Execution {
    /// `None` once it has ended.
    future: Option<BoxFuture<'static, ()>>,
    running: Arc<Running>,
    calls: Arc<OnceCalls>,
}

impl Execution {
    pub(super) fn new(
        running: Arc<Running>,
        calls: Arc<OnceCalls>,
        method: Arc<OnceMethod>,
        request: Request,
    ) -> Self {
        // The values that nested calls inherit, which a task has not by itself.
        let inherited = request.context().inherited().clone();
        let run = run(Arc::clone(&running), Arc::clone(&calls), method, request);
        Self { future: Some(Box::pin(inherited.wrap(run))), running, calls }
    }
}

/// A handler whose calls are carried out once.
pub(super) struct OnceMethod {
    pub(super) handler: Arc<dyn Handler>,
    /// For the lines about panics of the handler, which a caller may cause.
    pub(super) panic_log: LogThrottle,
}

impl Future for Execution {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        if let Some(future) = &mut self.future {
            ready!(future.as_mut().poll(cx));
            self.future = None;
        }
        Poll::Ready(self.running.outcome().expect("it is set before the end").clone())
    }
}

impl Drop for Execution {
    /// Lets the call go on. Its caller may have lost its connection, and ask for the answer over another one: a handler that
    /// was stopped halfway could neither be started again nor give an answer.
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.calls.adopt(Arc::clone(&self.running), future);
        }
    }
}

/// Carries the call out, unless it was carried out before.
async fn run(running: Arc<Running>, calls: Arc<OnceCalls>, method: Arc<OnceMethod>, request: Request) {
    let _abandoned = Abandoned { running: &running, calls: &calls };
    let name = running.call.method();
    let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
    loop {
        let unclaimed = match calls.store.claim(&running.call).await {
            Ok(Claim::Granted) => break,
            Ok(Claim::Running) => {
                // It ends with the deadline of its callers.
                sleep(backoff.next_pause()).await;
                continue;
            }
            Ok(Claim::Answered(answer)) => decode(answer),
            Ok(Claim::OtherArguments) => Response::error(other_arguments(&running.call)),
            Ok(Claim::Abandoned) => {
                let message = format!("`{name}`: the server that had begun with it is gone");
                Response::error(Status::maybe(Code::Unavailable, message))
            }
            Err(status) => Response::error(status),
        };
        return calls.end(&running, unclaimed, false).await;
    }
    running.set_started();
    // `AssertUnwindSafe`: nothing of the handler is used after a panic.
    let handled = AssertUnwindSafe(async { method.handler.call(request).await }).catch_unwind().await;
    let response = handled.unwrap_or_else(|panic| {
        if let Some(line) = method.panic_log.permit() {
            let (panic, suppressed) = (escaped_panic(&*panic), line.suppressed);
            error!(method = name, panic, suppressed, "handler panicked");
        }
        Response::error(Status::done(Code::Internal, format!("`{name}` panicked")))
    });
    running.set_handled();
    calls.end(&running, response, true).await;
}

/// Ends a call whose task was dropped, as by a runtime that ends.
struct Abandoned<'a> {
    running: &'a Running,
    calls: &'a OnceCalls,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if self.running.outcome().is_none() {
            let message = format!("`{}` was dropped", self.running.call.method());
            let status = if self.running.is_started() {
                Status::maybe(Code::Internal, message)
            } else {
                Status::refused(Code::Unavailable, message)
            };
            self.running.end(Response::error(status));
        }
        self.calls.leave(self.running);
    }
}
