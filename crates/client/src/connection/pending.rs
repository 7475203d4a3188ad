//! A call that is under way on a connection, seen from its caller.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farcall_protocol::{Code, Execution, Message, Seq};
use farcall_transport::Human;

use super::Connection;
use crate::error::{Phase, RpcError};
use crate::in_flight::Lost;

/// A call that is under way. Dropping it tells the server that the caller has gone.
pub(crate) struct Pending {
    connection: Connection,
    seq: Seq,
    /// The limit of its time, for the error that says it was passed.
    limit: Option<Duration>,
    fetched: bool,
}

impl Pending {
    pub(super) const fn new(connection: Connection, seq: Seq, limit: Option<Duration>) -> Self {
        Self { connection, seq, limit, fetched: false }
    }

    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }

    fn lost(&self, lost: Lost) -> RpcError {
        let shared = self.connection.shared();
        let within = |what: &str| format!("{what} within {}", Human(self.limit.unwrap_or_default()));
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
    type Output = Result<Message, RpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Its slot may be another call's by then.
        assert!(!self.fetched, "polled after it was ready");
        let outcome = ready!(self.connection.shared().poll(self.seq, cx.waker()));
        self.fetched = true;
        Poll::Ready(outcome.map_err(|lost| self.lost(lost)))
    }
}

impl Drop for Pending {
    /// A caller that goes before its answer comes has its handler stopped.
    fn drop(&mut self) {
        if !self.fetched {
            self.connection.shared().abandon(self.seq);
        }
    }
}
