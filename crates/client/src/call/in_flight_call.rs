//! A request that was sent and not yet answered.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::connection::pending::Pending;
use crate::connection::response::Response;
use crate::endpoints::guard::{InFlightGuard, has_latency};
use crate::error::RpcError;
use crate::totals::LatencyTimer;

/// A future for the response of a request that was sent. It reports the outcome to the endpoint's backend.
pub(crate) struct InFlightCall {
    pending: Pending,
    /// `None` if the channel has one endpoint.
    guard: Option<InFlightGuard>,
    /// `None` unless the latency of the only endpoint is measured.
    timer: Option<Box<LatencyTimer>>,
}

impl InFlightCall {
    pub(super) const fn new(
        pending: Pending,
        guard: Option<InFlightGuard>,
        timer: Option<Box<LatencyTimer>>,
    ) -> Self {
        Self { pending, guard, timer }
    }

    /// Ends its count at the endpoint, when it has its response. Nothing is left to drop then.
    #[inline]
    pub(super) fn ended(&mut self) {
        (self.guard, self.timer) = (None, None);
    }

    /// Returns the guard, when the call has ended.
    pub(super) fn into_guard(self) -> Option<InFlightGuard> {
        self.guard
    }
}

impl Future for InFlightCall {
    type Output = Result<Response, RpcError>;

    // Inlined, since a response is large to be moved.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { pending, guard, timer } = &mut *self;
        let outcome = ready!(Pin::new(pending).poll(cx));
        if let Some(guard) = guard {
            guard.record_outcome(outcome.as_ref().err());
        }
        if let Some(timer) = timer
            && outcome.as_ref().err().is_none_or(has_latency)
        {
            timer.record();
        }
        Poll::Ready(outcome)
    }
}
