//! [`CallSpan`]: the `tracing` span of a call, and its place in a distributed trace.
//!
//! Names and fields are those of OpenTelemetry's conventions for RPC, as far as these apply to this
//! protocol. The level is `DEBUG`, as for the client's spans: a span costs more than a small call.

use std::sync::Once;

use farcall_context::ConnectionInfo;
use farcall_context::trace::{MethodName, TRACESTATE, TraceContext, is_seen, join};
use farcall_protocol::metadata::{ATTEMPT, TRACEPARENT};
use farcall_protocol::{Code, EscapedText, Metadata, Status};
use tracing::field::{Empty, display};
use tracing::level_filters::LevelFilter;
use tracing::{Span, debug, debug_span, info, span};

/// The `tracing` target of the spans.
const TARGET: &str = "farcall::server";

/// The span of a call that a subscriber listens to. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct CallSpan {
    span: Span,
    context: TraceContext,
}

/// Says once in the log that calls have no spans, if there is a log and they have none: nothing else tells why log lines
/// have no trace ids. Called when a server starts to serve.
pub(crate) fn note_disabled_spans() {
    static NOTED: Once = Once::new();
    let level = LevelFilter::current();
    if level >= LevelFilter::INFO && level < LevelFilter::DEBUG {
        NOTED.call_once(|| {
            info!(
                "calls have no spans at this log level, so log lines have no trace ids; to enable them, set \
                 RUST_LOG=info,farcall::client=debug,farcall::server=debug"
            );
        });
    }
}

impl CallSpan {
    /// Opens the span of a call. `None` if no subscriber listens, which costs a load and a comparison.
    #[inline]
    pub(crate) fn open(
        method: &str,
        metadata: Option<&Metadata>,
        connection: &ConnectionInfo,
    ) -> Option<Box<Self>> {
        if !Self::may_be_seen() {
            return None;
        }
        Self::open_if_enabled(method, metadata, connection)
    }

    /// Returns `false` if no subscriber listens to any span of a call.
    #[inline]
    pub(crate) fn may_be_seen() -> bool {
        LevelFilter::current() >= LevelFilter::DEBUG
    }

    /// Opens the span if a subscriber wants it. Out of line, for the sake of calls without one.
    #[cold]
    #[inline(never)]
    fn open_if_enabled(
        method: &str,
        metadata: Option<&Metadata>,
        connection: &ConnectionInfo,
    ) -> Option<Box<Self>> {
        let name = MethodName::new(method);
        let sent = |key| metadata.and_then(|metadata| metadata.get(key));
        // The fields are evaluated only if the span is enabled.
        let span = debug_span!(
            target: TARGET,
            "rpc.server",
            otel.name = %name,
            otel.kind = "server",
            rpc.system = "farcall",
            rpc.service = name.service(),
            rpc.method = name.method(),
            trace_id = Empty,
            client.address = host_and_port(&connection.peer).0,
            client.port = host_and_port(&connection.peer).1,
            farcall.attempt = sent(ATTEMPT).and_then(|attempt| attempt.parse::<u32>().ok()),
            "error.type" = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        if !is_seen(&span) {
            return None;
        }
        let parent = sent(TRACEPARENT).and_then(TraceContext::parse);
        let (context, _) = join(&span, parent, sent(TRACESTATE).unwrap_or(""), true);
        Some(Box::new(Self { span, context }))
    }

    /// Returns the parent of the calls that the handler makes.
    pub(crate) const fn context(&self) -> TraceContext {
        self.context
    }

    /// Enters the span until the returned guard is dropped.
    pub(crate) fn enter(&self) -> span::Entered<'_> {
        self.span.enter()
    }

    /// Records the end of a stream.
    pub(crate) fn record_stream_end(&self) {
        self.span.in_scope(|| debug!(target: TARGET, "the stream has ended"));
    }

    /// Records the error that the call ends with.
    pub(crate) fn record_error(&self, status: &Status) {
        self.span.record("error.type", status.code.name());
        if is_fault(status.code) {
            self.span.record("otel.status_code", "ERROR");
            self.span.record("otel.status_description", display(EscapedText(&status.message)));
        }
    }
}

/// Returns `true` for errors of the server, as opposed to those of the request, or of a caller that went
/// away: by the conventions, only the former make a server's span an error.
const fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::ResourceExhausted
            | Code::Unavailable
            | Code::Internal
            | Code::Application
    )
}

/// Returns the host and port of a peer such as `tcp@127.0.0.1:50412`; for one such as `memory`, the whole
/// text.
fn host_and_port(peer: &str) -> (&str, Option<u16>) {
    let address = peer.split_once('@').map_or(peer, |(_, address)| address);
    match address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (host.trim_start_matches('[').trim_end_matches(']'), Some(port)),
        None => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_split_into_host_and_port() {
        assert_eq!(host_and_port("tcp@127.0.0.1:50412"), ("127.0.0.1", Some(50412)));
        assert_eq!(host_and_port("tls@[::1]:7"), ("::1", Some(7)));
        assert_eq!(host_and_port("unix pid 7 uid 0"), ("unix pid 7 uid 0", None));
        assert_eq!(host_and_port("memory"), ("memory", None));
    }
}
