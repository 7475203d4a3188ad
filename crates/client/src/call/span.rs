//! The span of a call, where somebody listens; what other processes get to know of it.
//!
//! Names and fields are those of OpenTelemetry's conventions for RPC, as far as they say anything of a
//! protocol such as this. Its level is `DEBUG`: a span costs more than a small call does, and a program
//! that logs at `INFO` has not asked for one for each. Its target is its own, to be asked for alone.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use farcall_context::trace::{TRACESTATE, TraceContext, is_seen, join};
use farcall_protocol::metadata::TRACEPARENT;
use farcall_protocol::{Code, Metadata};
use farcall_transport::Address;
use tracing::field::{Empty, display};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument as _, Span, debug, debug_span};

use crate::call::request::Request;
use crate::call::state::Calling;
use crate::connection::response::Answer;
use crate::error::{CallError, RpcError};

/// What spans are asked for by.
const TARGET: &str = "farcall::client";

/// Whether anybody may listen to calls: a load and a comparison.
#[inline]
pub(crate) fn is_wanted() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

/// The span of a call that somebody listens to. It ends with this.
#[derive(Debug)]
pub(crate) struct CallSpan {
    span: Span,
    /// Whether it was said how the call ended.
    ended: bool,
}

impl CallSpan {
    /// The span of a call that is made now, which the request tells the server of. None where nobody
    /// listens. On the path of every call, [`is_wanted`] is to be asked before.
    #[cold]
    pub(crate) fn open(request: &mut Request) -> Option<Self> {
        if !is_wanted() {
            return None;
        }
        // What is in here is looked at only where it is enabled.
        let span = debug_span!(
            target: TARGET,
            "rpc.client",
            otel.name = %Name(request.method()),
            otel.kind = "client",
            rpc.system = "farcall",
            rpc.service = split(request.method()).0,
            rpc.method = split(request.method()).1,
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
            // Whoever names a parent for the server's span knows better.
            if let Some(own) = TraceContext::parse(own) {
                span.record("trace_id", display(own.trace_id()));
            }
        } else {
            // A span of this process that is its parent, if any, is so by itself.
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

    /// Runs a part of the call within it.
    pub(crate) fn in_scope<T>(&self, body: impl FnOnce() -> T) -> T {
        self.span.in_scope(body)
    }

    /// The call has succeeded, at this endpoint if there was one.
    fn succeeded(&mut self, endpoint: Option<&Address>) {
        self.ended = true;
        self.at(endpoint);
    }

    /// The call has failed.
    fn failed(&mut self, code: Code, endpoint: Option<&Address>, why: Option<&dyn fmt::Display>) {
        self.ended = true;
        self.at(endpoint);
        self.span.record("error.type", code.name());
        self.span.record("otel.status_code", "ERROR");
        if let Some(why) = why {
            self.span.record("otel.status_description", display(why));
        }
    }

    fn failed_with(&mut self, error: &RpcError) {
        self.failed(error.code(), error.endpoint(), Some(error));
    }

    fn at(&self, endpoint: Option<&Address>) {
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
    /// Its caller has gone away before it ended.
    fn drop(&mut self) {
        if !self.ended {
            // Within it, since a span ends for OpenTelemetry when it was left last.
            let span = self.span.clone();
            span.in_scope(|| self.failed(Code::Cancelled, None, Some(&"its caller has gone away")));
        }
    }
}

/// What was said of the trace of `parent`; empty where nothing was, or where it came with another trace
/// or with none.
fn inherited_state(metadata: Option<&Metadata>, parent: Option<TraceContext>) -> &str {
    let Some((metadata, parent)) = metadata.zip(parent) else { return "" };
    let came = metadata.get(TRACEPARENT).and_then(TraceContext::parse);
    let same = came.is_some_and(|came| came.trace_id() == parent.trace_id());
    metadata.get(TRACESTATE).filter(|_| same).unwrap_or("")
}

/// The name of a span: `Arith/multiply`, as the conventions have it.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match split(self.0) {
            ("", method) => f.write_str(method),
            (service, method) => write!(f, "{service}/{method}"),
        }
    }
}

/// The service and the method of a full name; no service where there is no dot.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

/// A call that is polled within its span.
pub(crate) struct Spanned {
    span: CallSpan,
    calling: Calling,
}

impl Spanned {
    /// A call that was begun within the span.
    pub(crate) const fn new(span: CallSpan, calling: Calling) -> Self {
        Self { span, calling }
    }
}

impl Future for Spanned {
    type Output = Result<Answer, RpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { span, calling } = &mut *self;
        let outcome = ready!(span.in_scope(|| Pin::new(calling).poll(cx)));
        match &outcome {
            Ok(answer) => span.succeeded(Some(answer.endpoint())),
            Err(error) => span.failed_with(error),
        }
        Poll::Ready(outcome)
    }
}

/// Makes a call that has no answer, or many, within its span, if it has one.
pub(crate) async fn within<T, E: Fails>(
    span: Option<CallSpan>,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(mut span) = span else { return call.await };
    let outcome = call.instrument(span.span.clone()).await;
    match &outcome {
        Ok(_) => span.succeeded(None),
        Err(error) => error.tell(&mut span),
    }
    outcome
}

/// An error that a call can end with.
pub(crate) trait Fails {
    /// Tells the call's span of it.
    fn tell(&self, span: &mut CallSpan);
}

impl Fails for RpcError {
    fn tell(&self, span: &mut CallSpan) {
        span.failed_with(self);
    }
}

impl<E> Fails for CallError<E> {
    fn tell(&self, span: &mut CallSpan) {
        match self {
            Self::Application(_) => span.failed(Code::Application, None, None),
            Self::Rpc(error) => span.failed_with(error),
        }
    }
}

/// A call is tried again, after this error.
pub(crate) fn tried_again(error: &RpcError) {
    debug!(%error, "trying again");
}

/// The call that is polled now is made for the so many-th time. Where its span is not enabled, the one that
/// it is polled in has no such field, and takes no note.
pub(crate) fn counted(tries: u32) {
    Span::current().record("farcall.tries", tries);
}
