//! The tracing span of a call, and the trace context that the server is sent.
//!
//! Names and fields follow OpenTelemetry's conventions for RPC, as far as they fit this protocol. The level is
//! `DEBUG`: a span costs more than a small call does, and a program that logs at `INFO` has not asked for one per
//! call. The target, `farcall::client`, allows enabling these spans alone.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use farcall_context::trace::{MethodName, TRACESTATE, TraceContext, is_seen, join};
use farcall_protocol::metadata::TRACEPARENT;
use farcall_protocol::{Code, Metadata};
use farcall_transport::Address;
use tracing::field::{Empty, display};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument as _, Span, debug, debug_span};

use super::request::Request;
use crate::connection::response::Response;
use crate::error::{CallError, RpcError};

/// The target of the spans.
const TARGET: &str = "farcall::client";

/// Returns `true` if a subscriber may be interested in calls: a load and a comparison.
#[inline]
pub(crate) fn is_enabled() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

/// The span of a call that a subscriber records. Dropping it ends the span.
#[derive(Debug)]
pub(crate) struct CallSpan {
    span: Span,
    /// `true` once the outcome was recorded.
    ended: bool,
}

impl CallSpan {
    /// Opens the span of a call that starts now, and puts its trace context into the request. `None` if no
    /// subscriber records it. The path of every call checks [`is_enabled`] before.
    #[cold]
    pub(crate) fn open(request: &mut Request) -> Option<Self> {
        if !is_enabled() {
            return None;
        }
        let name = MethodName::new(request.method());
        // The fields are evaluated only if the span is enabled.
        let span = debug_span!(
            target: TARGET,
            "rpc.client",
            otel.name = %name,
            otel.kind = "client",
            rpc.system = "farcall",
            rpc.service = name.service(),
            rpc.method = name.method(),
            trace_id = Empty,
            server.address = Empty,
            server.port = Empty,
            farcall.tries = Empty,
            "error.type" = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        if !is_seen(&span) {
            return None;
        }
        if let Some(own) = request.metadata().and_then(|own| own.get(TRACEPARENT)) {
            // The caller has set the parent of the server's span explicitly.
            if let Some(own) = TraceContext::parse(own) {
                span.record("trace_id", display(own.trace_id()));
            }
        } else {
            // If this process has a current span, it is the parent already.
            let remote = Span::current().is_none();
            let parent = request.inherited.trace_context();
            let state = inherited_state(request.inherited.metadata.as_deref(), parent);
            let (context, state) = join(&span, parent, state, remote);
            request.inherited.trace = Some(Arc::new(context));
            if !state.is_empty() && request.metadata().is_none_or(|own| own.get(TRACESTATE).is_none()) {
                request.set_metadata(TRACESTATE, state);
            }
        }
        Some(Self { span, ended: false })
    }

    /// Runs a part of the call within the span.
    pub(crate) fn in_scope<T>(&self, body: impl FnOnce() -> T) -> T {
        self.span.in_scope(body)
    }

    /// Records that the call succeeded, at this endpoint if there was a single one.
    fn record_success(&mut self, endpoint: Option<&Address>) {
        self.ended = true;
        self.record_endpoint(endpoint);
    }

    /// Records that the call failed.
    fn record_failure(
        &mut self,
        code: Code,
        endpoint: Option<&Address>,
        description: Option<&dyn fmt::Display>,
    ) {
        self.ended = true;
        self.record_endpoint(endpoint);
        self.span.record("error.type", code.name());
        self.span.record("otel.status_code", "ERROR");
        if let Some(description) = description {
            self.span.record("otel.status_description", display(description));
        }
    }

    fn record_rpc_error(&mut self, error: &RpcError) {
        self.record_failure(error.code(), error.endpoint(), Some(error));
    }

    fn record_endpoint(&self, endpoint: Option<&Address>) {
        let Some(endpoint) = endpoint else { return };
        match (endpoint.host(), endpoint.path()) {
            (Some(host), _) => self.span.record("server.address", host),
            (None, Some(path)) => self.span.record("server.address", display(path.display())),
            (None, None) => &self.span,
        };
        if let Some(port) = endpoint.port() {
            self.span.record("server.port", port);
        }
    }
}

impl Drop for CallSpan {
    /// Records that the caller dropped the call before its outcome.
    fn drop(&mut self) {
        if !self.ended {
            // Entered, since OpenTelemetry ends a span when it is exited last.
            let span = self.span.clone();
            span.in_scope(|| self.record_failure(Code::Cancelled, None, Some(&"its caller has gone away")));
        }
    }
}

/// Returns the `tracestate` that came with the trace of `parent`; empty if none came, or if it came with another
/// trace.
fn inherited_state(metadata: Option<&Metadata>, parent: Option<TraceContext>) -> &str {
    let Some((metadata, parent)) = metadata.zip(parent) else { return "" };
    let received = metadata.get(TRACEPARENT).and_then(TraceContext::parse);
    let same = received.is_some_and(|received| received.trace_id() == parent.trace_id());
    metadata.get(TRACESTATE).filter(|_| same).unwrap_or("")
}

/// A call that is polled within its span.
pub(crate) struct Spanned<F> {
    span: CallSpan,
    call: F,
}

impl<F> Spanned<F> {
    /// Wraps a call that was begun within the span.
    pub(crate) const fn new(span: CallSpan, call: F) -> Self {
        Self { span, call }
    }
}

impl<F: Future<Output = Result<Response, RpcError>> + Unpin> Future for Spanned<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { span, call } = &mut *self;
        let outcome = ready!(span.in_scope(|| Pin::new(call).poll(cx)));
        match &outcome {
            Ok(response) => span.record_success(Some(response.endpoint())),
            Err(error) => span.record_rpc_error(error),
        }
        Poll::Ready(outcome)
    }
}

/// Makes a call that has no response, or many, within its span if it has one.
pub(crate) async fn within_span<T, E: RecordError>(
    span: Option<CallSpan>,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(mut span) = span else { return call.await };
    let outcome = call.instrument(span.span.clone()).await;
    match &outcome {
        Ok(_) => span.record_success(None),
        Err(error) => error.record_error(&mut span),
    }
    outcome
}

/// Errors that a call can end with.
pub(crate) trait RecordError {
    /// Records the error in the call's span.
    fn record_error(&self, span: &mut CallSpan);
}

impl RecordError for RpcError {
    fn record_error(&self, span: &mut CallSpan) {
        span.record_rpc_error(self);
    }
}

impl<E> RecordError for CallError<E> {
    fn record_error(&self, span: &mut CallSpan) {
        match self {
            Self::Application(_) => span.record_failure(Code::Application, None, None),
            Self::Rpc(error) => span.record_rpc_error(error),
        }
    }
}

/// Logs that a call is retried after this error.
pub(crate) fn retrying(error: &RpcError) {
    debug!(%error, "trying again");
}

/// Records the attempt number on the current call span. A no-op if the current span has no `farcall.tries` field.
pub(crate) fn record_attempt(attempt: u32) {
    Span::current().record("farcall.tries", attempt);
}
