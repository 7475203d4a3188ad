//! A call that is under way on a connection, seen from its caller.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farcall_protocol::{Code, Execution, Seq};
use farcall_transport::HumanDuration;

use super::Connection;
use crate::connection::in_flight::Lost;
use crate::connection::response::Answer;
use crate::error::{Phase, RpcError};

/// A call that is under way. Dropping it tells the server that the caller has gone.
pub(crate) struct Pending {
    /// None once the outcome was fetched, which takes it along.
    connection: Option<Connection>,
    seq: Seq,
    /// The limit of its time, for the error that says it was passed.
    limit: Option<Duration>,
}

impl Pending {
    pub(super) const fn new(connection: Connection, seq: Seq, limit: Option<Duration>) -> Self {
        Self { connection: Some(connection), seq, limit }
    }

    fn lost(&self, lost: Lost, connection: &Connection) -> RpcError {
        let shared = connection.shared();
        let within = |what: &str| format!("{what} within {}", HumanDuration(self.limit.unwrap_or_default()));
        let (code, execution, phase, message) = match lost {
            Lost::Deadline { written: true } => {
                (Code::DeadlineExceeded, Execution::Maybe, Phase::Wait, within("no answer"))
            }
            // It still leaves, with its cancel behind it.
            Lost::Deadline { written: false } => (
                Code::DeadlineExceeded,
                Execution::Maybe,
                Phase::Write,
                within("the request was not written"),
            ),
            Lost::Connection(Execution::NotSent) => {
                (Code::Unavailable, Execution::NotSent, Phase::Write, shared.why_ended())
            }
            Lost::Connection(execution) => (Code::Unavailable, execution, Phase::Wait, shared.why_ended()),
            Lost::Goaway => (Code::Unavailable, Execution::Refused, Phase::Wait, shared.why_closed()),
        };
        RpcError::new(code, execution, phase, message).at(&shared.endpoint)
    }
}

impl Future for Pending {
    type Output = Result<Answer, RpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Its slot may be another call's once it was fetched.
        let connection = self.connection.as_ref().expect("not polled after it was ready");
        let outcome = ready!(connection.shared().poll(self.seq, cx.waker()));
        let connection = self.connection.take().expect("just looked at");
        Poll::Ready(match outcome {
            Ok(reply) => Answer::new(reply, connection),
            Err(lost) => Err(self.lost(lost, &connection)),
        })
    }
}

impl Drop for Pending {
    /// A caller that goes before its answer comes has its handler stopped.
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.shared().abandon(self.seq);
        }
    }
}
