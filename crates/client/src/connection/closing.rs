//! [`Closing`]: connections that are being closed.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use farcall_protocol::{Code, Execution};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::progress::EndKind;
use super::shared::Shared;
use crate::error::{Phase, RpcError};

/// The future of [`Channel::close`](crate::Channel::close) and [`Connection::close`](crate::Connection::close): ready
/// when the connections are closed. Closing goes on if it is dropped.
///
/// By then all calls in flight have ended, all that was sent is written, one-way calls too, and the server has read it
/// and closed its side. This takes as long as the calls in flight, and the server has 10 s to close after that.
///
/// # Errors
///
/// `unavailable`, `maybe`: a connection broke before all was written, the server did not close, or the runtime of the
/// connection was shut down.
pub struct Closing {
    closed: BoxFuture<'static, Result<(), RpcError>>,
}

impl Closing {
    /// Waits until these connections have ended, which were closed just now.
    pub(super) fn new(connections: Vec<Arc<Shared>>) -> Self {
        Self { closed: Box::pin(until_closed(connections)) }
    }

    /// Waits for all of these.
    pub(crate) fn all(closings: Vec<Self>) -> Self {
        let closed = async move {
            let mut outcome = Ok(());
            for closing in closings {
                outcome = outcome.and(closing.await);
            }
            outcome
        };
        Self { closed: Box::pin(closed) }
    }
}

impl Future for Closing {
    type Output = Result<(), RpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.closed.poll_unpin(cx)
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing").finish_non_exhaustive()
    }
}

/// Waits for all, and returns the first error. They close at the same time, so waiting in order takes no longer.
async fn until_closed(connections: Vec<Arc<Shared>>) -> Result<(), RpcError> {
    let mut outcome = Ok(());
    for shared in connections {
        let end = shared.progress.until_ended().await;
        let whole = end.kind == EndKind::Closed && shared.progress.is_flushed(shared.sent());
        if !whole && outcome.is_ok() {
            let (code, execution) = (Code::Unavailable, Execution::Maybe);
            outcome = Err(RpcError::new(code, execution, Phase::Write, &*end.reason).at(&shared.endpoint));
        }
    }
    outcome
}
