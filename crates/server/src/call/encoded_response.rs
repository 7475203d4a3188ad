//! Responses on their way into an outbox: compressed where that is worth it, replaced where they
//! would be too large.

use farcall_protocol::{Body, Code, Flags, HeaderRef, Kind, MaxFrameBytes, Negotiated, Outbox, Seq, Status};

use crate::server::state::Core;
use crate::service::handler::Response;

/// Bodies below this are never refused for want of room: an error would hardly be shorter.
const ALWAYS_FITS: usize = 4096;

/// The response with its body compressed where that was agreed on and is worth it.
pub(crate) fn compressed(mut response: Response, negotiated: &Negotiated) -> (Response, Flags) {
    let Some(compression) = negotiated.compression else { return (response, Flags::NONE) };
    // The peer bounds the size before compression too.
    if response.body.len() > negotiated.send_limit.get() {
        return (response, Flags::NONE);
    }
    match compression.compress(&response.body()) {
        Some(body) => {
            response.body = body.into();
            (response, Flags::COMPRESSED)
        }
        None => (response, Flags::NONE),
    }
}

/// The response, or an error in its place where the server's buffers have no room for it.
pub(crate) fn within_budget(response: Response, core: &Core) -> Response {
    let size = response.body.len();
    if size < ALWAYS_FITS || !core.budget.lacks(size) {
        return response;
    }
    let message = format!("the server's buffers are full: {} bytes", core.budget.limit());
    Response::error(Status::done(Code::ResourceExhausted, message))
}

/// Appends the answer to call `seq`; one that the peer would not accept is replaced by an error
/// that says so.
pub(crate) fn push_response(
    outbox: &mut Outbox,
    negotiated: &Negotiated,
    seq: Seq,
    response: &Response,
    flags: Flags,
) {
    let header = HeaderRef {
        error: response.error.as_deref(),
        metadata: response.metadata.as_deref(),
        flags,
        ..HeaderRef::new(Kind::Response, seq)
    };
    let Err(too_large) = outbox.push(&negotiated.codec, &header, &response.body, negotiated.send_limit)
    else {
        return;
    };
    let mut status = Status::done(Code::ResourceExhausted, format!("the answer's {too_large}"));
    if push_error(outbox, negotiated, seq, &status, negotiated.send_limit) {
        return;
    }
    // A peer that accepts not even the sentence gets the code alone, and in the end over its
    // limit: it asked for an answer, and none would leave it waiting.
    status.message.clear();
    if !push_error(outbox, negotiated, seq, &status, negotiated.send_limit) {
        push_error(outbox, negotiated, seq, &status, MaxFrameBytes::DEFAULT);
    }
}

fn push_error(
    outbox: &mut Outbox,
    negotiated: &Negotiated,
    seq: Seq,
    status: &Status,
    limit: MaxFrameBytes,
) -> bool {
    let header = HeaderRef { error: Some(status), ..HeaderRef::new(Kind::Response, seq) };
    outbox.push(&negotiated.codec, &header, &Body::default(), limit).is_ok()
}
