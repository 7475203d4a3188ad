//! Shared ownership of a connection: it closes when the last handle is dropped.

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use farcall_protocol::limits::MAX_HEADER_BYTES;
use farcall_protocol::{Body, Code, Execution, Flags, Metadata, Negotiated, Part, TooLarge};
use farcall_transport::Address;

use super::request::{EncodedRequest, SendError, deadline_exceeded};
use super::shared::Shared;
use super::streams::Streams;
use crate::deadline::Deadline;
use crate::error::{Phase, RpcError};

/// Keeps a connection open. Clones of [`Connection`](super::Connection), calls in flight and their responses
/// share one handle.
pub(crate) struct Handle(Arc<Shared>);

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Returns the connection's state, unless it has ended.
    pub(super) fn unended(&self) -> Vec<Arc<Shared>> {
        let open = self.0.progress.ended().is_none();
        open.then(|| Arc::clone(&self.0)).into_iter().collect()
    }

    /// Returns the streams of the connection, which the first call of this creates. `None` if the sides did not agree on
    /// streams.
    pub(super) fn streams(&self) -> Option<&Streams> {
        let terms = self.0.negotiated.streams.as_ref()?;
        let create = || {
            let task = Waker::from(Arc::new(StreamTask(Arc::downgrade(&self.0))));
            Box::new(Streams::new(&self.0.negotiated, terms, self.0.stream_options, task))
        };
        Some(self.0.streams.get_or_init(create))
    }

    /// Returns the other side's address, as errors name it.
    pub(crate) fn endpoint(&self) -> &Address {
        &self.0.endpoint
    }

    /// Returns what the handshake agreed on.
    pub(crate) fn negotiated(&self) -> &Negotiated {
        &self.0.negotiated
    }

    /// Encodes a request for this connection.
    ///
    /// # Errors
    ///
    /// The body is larger than the server accepts.
    #[inline]
    pub(crate) fn encode<'a>(
        &self,
        method: &'a str,
        body: &'a Body,
        metadata: Option<&'a Metadata>,
        flags: Flags,
        deadline: Option<Deadline>,
    ) -> Result<EncodedRequest<'a>, RpcError> {
        EncodedRequest::new(method, body, metadata, flags, deadline, self.negotiated())
            .map_err(|error| self.too_large(method, &error))
    }

    /// Creates the error of a request that the connection did not take in `phase`.
    pub(crate) fn send_error(
        &self,
        request: &EncodedRequest<'_>,
        error: &SendError,
        phase: Phase,
    ) -> RpcError {
        match error {
            SendError::TooLarge(error) => self.too_large(request.method(), error),
            SendError::DeadlineExceeded => {
                deadline_exceeded(request.method(), request.deadline(), phase).at(self.endpoint())
            }
            SendError::NoStreams(reason) => reason.error(request.method()).at(self.endpoint()),
            SendError::Lost => {
                RpcError::new(Code::Unavailable, Execution::Maybe, Phase::Write, self.0.end_reason())
                    .at(self.endpoint())
            }
            SendError::Closed | SendError::TooManyInFlight | SendError::OutboxFull => {
                RpcError::new(Code::Unavailable, Execution::NotSent, phase, self.0.close_reason())
                    .at(self.endpoint())
            }
        }
    }

    fn too_large(&self, method: &str, error: &TooLarge) -> RpcError {
        let TooLarge { part, size, limit, .. } = error;
        let message = match part {
            // Of a header, the protocol's limit is the smaller one, unless the server's is very low.
            Part::Header if *limit == MAX_HEADER_BYTES => format!(
                "`{method}`: the request's header of {size} bytes, most of it metadata, is over the protocol's limit \
                 of {limit} bytes"
            ),
            Part::Header => format!(
                "`{method}`: the request's header of {size} bytes, most of it metadata, is over the server's limit of \
                 {limit} bytes (its `Limits::max_frame_bytes`)"
            ),
            _ => format!(
                "`{method}`: the request's body of {size} bytes is over the server's limit of {limit} bytes (its \
                 `Limits::max_frame_bytes`)"
            ),
        };
        RpcError::new(Code::ResourceExhausted, Execution::NotSent, Phase::Prepare, message)
            .at(self.endpoint())
    }
}

/// The connection's task, as the streams wake it. Weak, since the connection owns them.
struct StreamTask(Weak<Shared>);

impl Wake for StreamTask {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.streams_have_output();
        }
    }
}

impl Drop for Handle {
    /// Closes the connection: no further call is possible, and no caller waits, since calls in flight hold
    /// the handle.
    fn drop(&mut self) {
        self.0.release();
    }
}
