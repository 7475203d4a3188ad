//! [`EncodedResponse`]: a response on its way into an outbox.

use farcall_protocol::{Body, Code, Flags, HeaderRef, Kind, MaxFrameBytes, Negotiated, Outbox, Seq, Status};

use crate::memory_budget::MemoryBudget;
use crate::service::handler::Response;

/// Bodies below this are never refused for lack of memory: an error would hardly be shorter.
const MIN_REFUSED_BYTES: usize = 4096;

/// A response whose body is compressed, if that was negotiated and makes it smaller.
pub(crate) struct EncodedResponse {
    response: Response,
    flags: Flags,
}

impl EncodedResponse {
    pub(crate) fn new(response: Response, negotiated: &Negotiated) -> Self {
        let mut encoded = Self { response, flags: Flags::NONE };
        // The peer's limit holds for the size before compression, too.
        if let Some(compression) = negotiated.compression
            && encoded.response.body.len() <= negotiated.send_limit.get()
            && let Some(body) = compression.compress(&encoded.response.body())
        {
            encoded.response.body = body.into();
            encoded.flags = Flags::COMPRESSED;
        }
        encoded
    }

    /// Returns `true` if the body was compressed, which takes time.
    pub(crate) const fn is_compressed(&self) -> bool {
        self.flags.contains(Flags::COMPRESSED)
    }

    /// Appends the response to call `seq`. A response that the peer would not accept is replaced by
    /// an error that says so.
    pub(crate) fn push_to(&self, outbox: &mut Outbox, seq: Seq, negotiated: &Negotiated) {
        let header = HeaderRef {
            error: self.response.error.as_deref(),
            metadata: self.response.metadata.as_deref(),
            flags: self.flags,
            ..HeaderRef::new(Kind::Response, seq)
        };
        let body = &self.response.body;
        let Err(too_large) = outbox.push(&negotiated.codec, &header, body, negotiated.send_limit) else {
            return;
        };
        let mut status = Status::done(Code::ResourceExhausted, format!("the answer's {too_large}"));
        if push_error(outbox, seq, &status, negotiated, negotiated.send_limit) {
            return;
        }
        // A peer whose limit is below even this message gets the code alone, and, if that is too
        // large as well, beyond its limit: without any response the caller would wait in vain.
        status.message.clear();
        if !push_error(outbox, seq, &status, negotiated, negotiated.send_limit) {
            push_error(outbox, seq, &status, negotiated, MaxFrameBytes::DEFAULT);
        }
    }
}

/// Returns the response, or an error in its place if the server's buffers have no room for it.
pub(crate) fn within_budget(response: Response, memory: &MemoryBudget) -> Response {
    let size = response.body.len();
    if size < MIN_REFUSED_BYTES || !memory.would_exceed(size) {
        return response;
    }
    Response::error(Status::done(Code::ResourceExhausted, memory.exhausted_message()))
}

fn push_error(
    outbox: &mut Outbox,
    seq: Seq,
    status: &Status,
    negotiated: &Negotiated,
    limit: MaxFrameBytes,
) -> bool {
    let header = HeaderRef { error: Some(status), ..HeaderRef::new(Kind::Response, seq) };
    outbox.push(&negotiated.codec, &header, &Body::default(), limit).is_ok()
}
