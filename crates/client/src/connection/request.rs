//! A request as one connection sends it: its body compressed if that was agreed on, its size checked.

use std::time::Duration;

use farcall_protocol::text::shown_name;
use farcall_protocol::{
    Body, Code, Compression, Execution, Flags, HeaderRef, Kind, Metadata, Negotiated, Part, Seq, TooLarge,
};
use farcall_transport::HumanDuration;

use crate::deadline::Deadline;
use crate::error::{Phase, RpcError};

/// The size in bytes from which a request is large. Those below gain nothing by a connection to themselves: one writes and
/// reads them by turns in less time than it takes to wake another task.
pub(super) const LARGE_REQUEST: usize = 256 * 1024;

/// A request that is encoded for one connection.
pub(crate) struct EncodedRequest<'a> {
    method: &'a str,
    body: &'a Body,
    /// The body that is sent in place of `body`, if compressing it saves bytes.
    compressed: Option<Body>,
    flags: Flags,
    metadata: Option<&'a Metadata>,
    /// The deadline of the whole call.
    deadline: Option<Deadline>,
}

/// Reasons why a connection did not take a request.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The server runs as many calls as it allows.
    TooManyInFlight,
    /// As many bytes wait to be written as are allowed.
    OutboxFull,
    /// The connection takes no more calls.
    Closed,
    /// The connection ended while the request was written.
    Lost,
    /// Less than a millisecond is left until the call's deadline.
    DeadlineExceeded,
    /// The request is larger than the server accepts.
    TooLarge(TooLarge),
    /// The server takes no streaming calls.
    NoStreams(NoStreams),
}

/// The reason why a server takes no streaming calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoStreams {
    /// This side's options offer none.
    NotOffered,
    /// The server did not agree on them.
    NotAgreed,
    /// The server runs none at once.
    NoPlaces,
}

impl NoStreams {
    pub(super) fn error(self, method: &str) -> RpcError {
        let method = shown_name(method);
        let (code, message) = match self {
            Self::NotOffered => (
                Code::Unimplemented,
                format!(
                    "`{method}` streams, and the `stream_window` of the `ConnectionOptions` offers no streams"
                ),
            ),
            Self::NotAgreed => (
                Code::Unimplemented,
                format!("`{method}` streams, and the server has not agreed on streams in the handshake"),
            ),
            Self::NoPlaces => (
                Code::ResourceExhausted,
                format!(
                    "`{method}` streams, and the server runs no streaming calls (its `Limits::max_streams` is 0)"
                ),
            ),
        };
        // In the phase of the handshake, so that another endpoint is tried.
        RpcError::new(code, Execution::NotSent, Phase::Handshake, message)
    }
}

impl<'a> EncodedRequest<'a> {
    /// Encodes a request for a connection with these terms, and compresses its body if the handshake agreed on
    /// that and it saves bytes.
    ///
    /// # Errors
    ///
    /// The body is larger than the server accepts.
    #[inline]
    pub(super) fn new(
        method: &'a str,
        body: &'a Body,
        metadata: Option<&'a Metadata>,
        mut flags: Flags,
        deadline: Option<Deadline>,
        negotiated: &Negotiated,
    ) -> Result<Self, TooLarge> {
        let (size, limit) = (body.len(), negotiated.send_limit.get());
        if size > limit {
            return Err(TooLarge::new(Part::Body, size, limit));
        }
        let compress = |compression: Compression| compression.compress(&body.clone().into_bytes());
        let compression = negotiated.compression.filter(|_| size >= Compression::MIN_BYTES);
        let compressed = compression.and_then(compress).map(Body::from);
        if compressed.is_some() {
            flags = flags.with(Flags::COMPRESSED);
        }
        Ok(Self { method, body, compressed, flags, metadata, deadline })
    }

    /// Returns the name of the method.
    pub(super) const fn method(&self) -> &'a str {
        self.method
    }

    /// Returns the deadline of the whole call.
    pub(super) const fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Returns the name of the method, if that is all that the header has to say beside the number and the time that is left.
    #[inline]
    pub(super) fn only_method(&self) -> Option<&'a str> {
        (self.metadata.is_none() && self.flags == Flags::NONE).then_some(self.method)
    }

    /// Returns the header for the call number `seq`, which tells the server how much time is left.
    pub(super) const fn header(&self, seq: Seq, timeout_ms: u64) -> HeaderRef<'a> {
        HeaderRef {
            service_method: self.method,
            timeout_ms,
            metadata: self.metadata,
            flags: self.flags,
            ..HeaderRef::new(Kind::Request, seq)
        }
    }

    /// Returns the body as it is sent.
    pub(super) fn body(&self) -> &Body {
        self.compressed.as_ref().unwrap_or(self.body)
    }
}

/// Creates the error of a request whose deadline passed in `phase`: before it was sent, or, in [`Phase::Wait`], while
/// a one-way request was written.
pub(crate) fn deadline_exceeded(method: &str, deadline: Option<Deadline>, phase: Phase) -> RpcError {
    let limit = HumanDuration(deadline.map_or(Duration::ZERO, |deadline| deadline.limit));
    if phase == Phase::Wait {
        let message = format!("the request was not written within {limit}");
        return RpcError::new(Code::DeadlineExceeded, Execution::Maybe, Phase::Write, message);
    }
    let message = match phase {
        // The slot of a connection that is watched, such as by a probe.
        Phase::Queue => format!("no place for the call within {limit}"),
        Phase::Write => format!("no room for the request within {limit}"),
        _ => format!("`{}` was not called: of its time, {limit} was left", shown_name(method)),
    };
    RpcError::new(Code::DeadlineExceeded, Execution::NotSent, phase, message)
}

/// Creates the error of a request for which there was no place before its deadline, because of the limit that `full`
/// describes.
pub(crate) fn no_place(deadline: Option<Deadline>, full: &str) -> RpcError {
    let limit = HumanDuration(deadline.map_or(Duration::ZERO, |deadline| deadline.limit));
    let message = format!("no place for the call within {limit}: {full}");
    RpcError::new(Code::DeadlineExceeded, Execution::NotSent, Phase::Queue, message)
}
