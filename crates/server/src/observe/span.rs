//! The span of a call, where somebody listens; its place in a trace that another process began.
//!
//! Names and fields are those of OpenTelemetry's conventions for RPC, as far as they say anything of a
//! protocol such as this. Its level is `DEBUG`, as that of the client's: a span costs more than a small
//! call does.

use std::fmt;

use farcall_context::ConnectionInfo;
use farcall_context::trace::{TRACESTATE, TraceContext, is_seen, join};
use farcall_protocol::metadata::{ATTEMPT, TRACEPARENT};
use farcall_protocol::{Code, EscapedText, Metadata, Status};
use tracing::field::{Empty, display};
use tracing::level_filters::LevelFilter;
use tracing::{Span, debug_span, span};

/// What spans are asked for by.
const TARGET: &str = "farcall::server";

/// The span of a call that somebody listens to. It ends with this.
#[derive(Debug)]
pub(crate) struct CallSpan {
    span: Span,
    context: TraceContext,
}

impl CallSpan {
    /// The span of a call that was admitted. None where nobody listens, which costs a load and a
    /// comparison.
    #[inline]
    pub(crate) fn open(
        method: &str,
        metadata: Option<&Metadata>,
        connection: &ConnectionInfo,
    ) -> Option<Box<Self>> {
        if LevelFilter::current() < LevelFilter::DEBUG {
            return None;
        }
        Self::open_if_enabled(method, metadata, connection)
    }

    /// Kept out of the way of calls that nobody listens to.
    #[cold]
    #[inline(never)]
    fn open_if_enabled(
        method: &str,
        metadata: Option<&Metadata>,
        connection: &ConnectionInfo,
    ) -> Option<Box<Self>> {
        let said = |key| metadata.and_then(|metadata| metadata.get(key));
        // What is in here is looked at only where it is enabled.
        let span = debug_span!(
            target: TARGET,
            "rpc.server",
            otel.name = %Name(method),
            otel.kind = "server",
            rpc.system = "farcall",
            rpc.service = split(method).0,
            rpc.method = split(method).1,
            trace_id = Empty,
            client.address = place(&connection.peer).0,
            client.port = place(&connection.peer).1,
            farcall.attempt = said(ATTEMPT).and_then(|attempt| attempt.parse::<u32>().ok()),
            "error.type" = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        if !is_seen(&span) {
            return None;
        }
        let parent = said(TRACEPARENT).and_then(TraceContext::parse);
        let (context, _) = join(&span, parent, said(TRACESTATE).unwrap_or(""), true);
        Some(Box::new(Self { span, context }))
    }

    /// What the calls that its handler makes have above them.
    pub(crate) const fn context(&self) -> TraceContext {
        self.context
    }

    /// Is in it until what this returns is dropped.
    pub(crate) fn enter(&self) -> span::Entered<'_> {
        self.span.enter()
    }

    /// The call has ended with this error.
    pub(crate) fn failed(&self, status: &Status) {
        self.span.record("error.type", status.code.name());
        if is_fault(status.code) {
            self.span.record("otel.status_code", "ERROR");
            self.span.record("otel.status_description", display(EscapedText(&status.message)));
        }
    }
}

/// Whether an error is one of the server's, rather than of what it was asked, or of its caller's going
/// away: only those make an error of a server's span, as the conventions have it.
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

/// The host and port of a peer such as `tcp@127.0.0.1:50412`; of one such as `memory`, all of it.
fn place(peer: &str) -> (&str, Option<u16>) {
    let place = peer.split_once('@').map_or(peer, |(_, place)| place);
    match place.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (host.trim_start_matches('[').trim_end_matches(']'), Some(port)),
        None => (place, None),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_told_as_host_and_port_where_it_has_them() {
        assert_eq!(place("tcp@127.0.0.1:50412"), ("127.0.0.1", Some(50412)));
        assert_eq!(place("tls@[::1]:7"), ("::1", Some(7)));
        assert_eq!(place("unix pid 7 uid 0"), ("unix pid 7 uid 0", None));
        assert_eq!(place("memory"), ("memory", None));
    }
}
