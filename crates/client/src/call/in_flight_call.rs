//! A request that was sent and not yet answered.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::connection::pending::Pending;
use crate::connection::response::Response;
use crate::endpoints::guard::InFlightGuard;
use crate::error::RpcError;

/// A future for the response of a request that was sent. It reports the outcome to the endpoint's backend.
pub(crate) struct InFlightCall {
    pending: Pending,
    /// `None` if the channel has one endpoint.
    guard: Option<InFlightGuard>,
}

impl InFlightCall {
    pub(super) const fn new(pending: Pending, guard: Option<InFlightGuard>) -> Self {
        Self { pending, guard }
    }

    /// Returns the guard, when the call has ended.
    pub(super) fn into_guard(self) -> Option<InFlightGuard> {
        self.guard
    }
}

impl Future for InFlightCall {
    type Output = Result<Response, RpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { pending, guard } = &mut *self;
        let outcome = ready!(Pin::new(pending).poll(cx));
        if let Some(guard) = guard {
            guard.record_outcome(outcome.as_ref().err());
        }
        Poll::Ready(outcome)
    }
}
