//! Which calls are started at all, and what they start with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farcall_context::Inherited;
use farcall_protocol::{Code, Header, Status};
use tokio::time::Instant;

use super::{Answer, Call, Home};
use crate::limits::after;
use crate::observe::span::CallSpan;
use crate::service::method::Method;

impl Home {
    /// Decides whether a call is started at all. `body` brings its arguments, and what time it is
    /// then; it is not called for a call that is refused anyway. Of the header, the metadata is taken.
    ///
    /// # Errors
    ///
    /// The status to answer, `refused`.
    // By itself it is too long to be inlined, most of it being refusals; what it returns is large to be moved.
    #[inline]
    pub(crate) fn admit(
        &self,
        header: &mut Header,
        answer: Answer,
        arrived: Instant,
        body: impl FnOnce() -> Result<(Bytes, Instant), Status>,
    ) -> Result<(Call<&Arc<Method>>, Bytes), Status> {
        let Self { calls, negotiated, info, core } = self;
        let exhausted = |message| Err(Status::refused(Code::ResourceExhausted, message));
        // Before the connection's, which is the same for calls that come by none.
        if core.is_full() {
            return exhausted(format!(
                "{} calls are in flight on this server",
                core.limits.max_in_flight_in_all
            ));
        }
        if calls.running() >= negotiated.max_in_flight.get() {
            return exhausted(format!("{} calls are in flight on this connection", negotiated.max_in_flight));
        }
        if core.budget.lacks(0) {
            return exhausted(format!("the server's buffers are full: {} bytes", core.budget.limit()));
        }
        let method = core.router.find(&header.service_method)?;
        let (body, now) = body()?;
        let theirs =
            (header.timeout_ms > 0).then(|| after(arrived, Duration::from_millis(header.timeout_ms)));
        let ours = negotiated.handle_timeout.map(|limit| after(arrived, limit));
        let deadline = match (theirs, ours) {
            (Some(theirs), Some(ours)) => Some(theirs.min(ours)),
            (one, other) => one.or(other),
        };
        let metadata = header.metadata.take().map(|metadata| Arc::new(*metadata));
        let span = CallSpan::open(&method.name, metadata.as_deref(), info);
        let trace = span.as_ref().map(|span| Arc::new(span.context()));
        let inherited = Inherited { deadline, metadata, trace };
        let call = Call { seq: header.seq, answer, method, inherited, arrived, span };
        call.check_deadline(now).inspect_err(|status| call.failed(status))?;
        Ok((call, body))
    }
}
