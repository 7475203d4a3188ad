//! A call in flight on a connection, as its caller sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farcall_protocol::{Code, Execution, Seq};
use farcall_transport::HumanDuration;

use super::handle::Handle;
use super::in_flight::ConnectionLoss;
use super::response::Response;
use crate::error::{Phase, RpcError};

/// A future for the response of a call in flight. Dropping it cancels the call on the server.
pub(crate) struct Pending {
    /// `None` once the outcome was taken.
    handle: Option<Arc<Handle>>,
    seq: Seq,
    /// The time that the call was given, for the error if it is exceeded.
    limit: Option<Duration>,
}

impl Pending {
    pub(super) const fn new(handle: Arc<Handle>, seq: Seq, limit: Option<Duration>) -> Self {
        Self { handle: Some(handle), seq, limit }
    }
}

impl Future for Pending {
    type Output = Result<Response, RpcError>;

    // Inlined, since a response is large to be moved.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // After the outcome was taken, the slot may belong to another call.
        let handle = self.handle.as_ref().expect("not polled after it was ready");
        let outcome = ready!(handle.shared().poll(self.seq, cx.waker()));
        let handle = self.handle.take().expect("it was there a line above");
        Poll::Ready(match outcome {
            Ok(reply) => Response::from_reply(reply, handle),
            Err(loss) => Err(loss_error(loss, self.limit, &handle)),
        })
    }
}

impl Drop for Pending {
    /// Cancels the call on the server if its caller leaves before the reply.
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.shared().abandon(self.seq);
        }
    }
}

/// Creates the error of a call that ended without a reply. `limit` is the time that it was given.
#[cold]
pub(super) fn loss_error(loss: ConnectionLoss, limit: Option<Duration>, handle: &Handle) -> RpcError {
    let shared = handle.shared();
    let within = |what: &str| format!("{what} within {}", HumanDuration(limit.unwrap_or_default()));
    let (code, execution, phase, message) = match loss {
        ConnectionLoss::Deadline { written: true } => {
            (Code::DeadlineExceeded, Execution::Maybe, Phase::Wait, within("no answer"))
        }
        // The request is still written, followed by its cancel.
        ConnectionLoss::Deadline { written: false } => {
            (Code::DeadlineExceeded, Execution::Maybe, Phase::Write, within("the request was not written"))
        }
        ConnectionLoss::Closed(Execution::NotSent) => {
            (Code::Unavailable, Execution::NotSent, Phase::Write, shared.end_reason())
        }
        ConnectionLoss::Closed(execution) => (Code::Unavailable, execution, Phase::Wait, shared.end_reason()),
        ConnectionLoss::Goaway => (Code::Unavailable, Execution::Refused, Phase::Wait, shared.close_reason()),
        ConnectionLoss::Stalled => {
            let limit = HumanDuration(shared.stream_options.max_stall);
            let message = format!(
                "an item has waited for credit for {limit}, the `stream_stall` of the connection: the server reads no items"
            );
            (Code::ResourceExhausted, Execution::Maybe, Phase::Write, message)
        }
    };
    RpcError::new(code, execution, phase, message).at(&shared.endpoint)
}
