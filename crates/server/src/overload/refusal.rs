//! [`Refusal`]: the reason for which a call is not started, and what its caller is answered.

use std::time::Duration;

use farcall_protocol::metadata::RETRY_AFTER_MS;
use farcall_protocol::{Code, Metadata, Status};

use crate::service::handler::Response;

/// The refusal of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(super) reason: RefusalReason,
    /// The number of calls that may run at once.
    pub(super) limit: usize,
    pub(super) retry_after: Duration,
}

/// The reason of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalReason {
    /// There was no place in time.
    Overloaded,
    /// The same, for a call that is refused first.
    Sheddable,
    /// The handler could not end within the call's deadline.
    Deadline,
}

impl Refusal {
    /// Creates the response.
    pub(crate) fn response(self, method: &str) -> Response {
        let Self { reason, limit, retry_after } = self;
        let exhausted = |text: String| Status::refused(Code::ResourceExhausted, text);
        let status = match reason {
            RefusalReason::Overloaded => exhausted(format!(
                "the server is overloaded: {limit} calls run, and none ended in time for `{method}`"
            )),
            RefusalReason::Sheddable => {
                exhausted(format!("the server is overloaded, and the call of `{method}` is sheddable"))
            }
            RefusalReason::Deadline => {
                let message = format!("calls of `{method}` take longer than the time that is left");
                return Response::error(Status::refused(Code::DeadlineExceeded, message));
            }
        };
        let mut metadata = Metadata::new();
        metadata.insert(RETRY_AFTER_MS, retry_after.as_millis().to_string()).expect("the key is well formed");
        Response::error(status).with_metadata(metadata)
    }
}
