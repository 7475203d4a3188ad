//! [`EncodedResponse`]: a response on its way into an outbox.

use farcall_protocol::{
    Body, Code, Compression, Flags, HeaderRef, Kind, MaxFrameBytes, Negotiated, Outbox, Seq, Status,
};

use crate::service::handler::Response;

/// A response whose body is compressed, if that was negotiated and makes it smaller.
pub(crate) struct EncodedResponse<'a> {
    response: &'a Response,
    took_time: bool,
}

impl<'a> EncodedResponse<'a> {
    #[inline]
    pub(crate) fn new(response: &'a mut Response, negotiated: &Negotiated) -> Self {
        let took_time = compress(response, negotiated);
        Self { response, took_time }
    }

    /// Returns `true` if the body was compressed now, or that was tried.
    pub(crate) const fn took_time(&self) -> bool {
        self.took_time
    }

    /// Appends the response to call `seq`. A response that the peer would not accept is replaced by
    /// an error that says so.
    #[inline]
    pub(crate) fn push_to(&self, outbox: &mut Outbox, seq: Seq, negotiated: &Negotiated) {
        let Response { error, body, metadata, compressed } = self.response;
        let Negotiated { codec, send_limit, .. } = negotiated;
        let is_bare = error.is_none() && metadata.is_none() && *compressed != Some(true);
        if !is_bare || !outbox.push_usual(codec, (Kind::Response, seq, ""), body, *send_limit) {
            self.push_described(outbox, seq, negotiated);
        }
    }

    /// Appends a response of any form.
    #[inline(never)]
    fn push_described(&self, outbox: &mut Outbox, seq: Seq, negotiated: &Negotiated) {
        let header = HeaderRef {
            error: self.response.error.as_deref(),
            metadata: self.response.metadata.as_deref(),
            flags: if self.response.compressed == Some(true) { Flags::COMPRESSED } else { Flags::NONE },
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

/// Compresses a response's body if that was negotiated, makes it smaller, and was not tried before. Returns `true` if
/// it took time.
#[inline]
pub(super) fn compress(response: &mut Response, negotiated: &Negotiated) -> bool {
    let Some(compression) = negotiated.compression else { return false };
    let len = response.body.len();
    // The peer's limit holds for the size before compression, too.
    if len < Compression::MIN_BYTES || len > negotiated.send_limit.get() || response.compressed.is_some() {
        return false;
    }
    let body = compression.compress(&response.body());
    response.compressed = Some(body.is_some());
    if let Some(body) = body {
        response.body = body.into();
    }
    true
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
