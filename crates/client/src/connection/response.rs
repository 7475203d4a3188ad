//! Responses of servers: a successful result, or the error that a response says.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use farcall_protocol::{Code, Codec, CompressionError, Execution, Flags, with_shared_source};
use farcall_transport::Address;
use serde::de::DeserializeOwned;

use super::handle::Handle;
use super::in_flight::{ReplyHead, ReplyParts};
use crate::error::{CallError, Phase, RpcError};

/// The successful result of a call, still encoded. Layers around a channel's calls see it; see
/// [`ChannelBuilder::layer`](crate::ChannelBuilder::layer).
///
/// It keeps the connection open that it came over. Clones are cheap and share the bytes.
#[derive(Clone)]
pub struct Response {
    handle: Arc<Handle>,
    body: Bytes,
}

/// Turns the outcome of a call into the types of its method.
pub(crate) type DecodeFn<T, E> = fn(Result<Response, RpcError>) -> Result<T, CallError<E>>;

impl Response {
    /// Creates a response without a result, for requests that are not answered.
    pub(super) const fn empty(handle: Arc<Handle>) -> Self {
        Self { handle, body: Bytes::new() }
    }

    /// Reads a reply, and decompresses its body.
    ///
    /// # Errors
    ///
    /// The reply is an error, or it cannot be read.
    #[inline]
    pub(super) fn from_reply(reply: ReplyParts, handle: Arc<Handle>) -> Result<Self, RpcError> {
        let ReplyParts { body, head } = reply;
        match head {
            None => Ok(Self { handle, body }),
            Some(head) => Self::from_described(*head, body, handle),
        }
    }

    /// Reads a reply that is more than a result.
    #[inline(never)]
    fn from_described(head: ReplyHead, body: Bytes, handle: Arc<Handle>) -> Result<Self, RpcError> {
        let ReplyHead { error, metadata, flags } = head;
        if let Some(metadata) = &metadata {
            handle.shared().read_load(metadata);
        }
        let body = if flags.contains(Flags::COMPRESSED) { decompress(&body, &handle) } else { Ok(body) };
        let Some(status) = error else {
            return match body {
                Ok(body) => Ok(Self { handle, body }),
                Err(error) => Err(unreadable(&error.to_string(), &handle).with_source(error)),
            };
        };
        let error =
            RpcError::from_status(*status, Phase::Answer).at(handle.endpoint()).with_metadata(metadata);
        // Details that cannot be read are dropped; the error itself is not.
        match body {
            Ok(body) if !body.is_empty() => Err(error.with_details(handle.negotiated().codec.clone(), body)),
            _ => Err(error),
        }
    }

    /// Returns the address of the server that sent it.
    #[must_use]
    pub fn endpoint(&self) -> &Address {
        self.handle.endpoint()
    }

    /// Returns the codec that its body is encoded in.
    #[must_use]
    pub fn codec(&self) -> &Codec {
        &self.handle.negotiated().codec
    }

    /// Returns the encoded result. Empty for a request that is not answered.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Decodes the result.
    ///
    /// # Errors
    ///
    /// The result is not a `T`: `internal`, and `done`, since the method ran.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, RpcError> {
        let decoded = with_shared_source(&self.body, || self.codec().decode(&self.body));
        decoded.map_err(|error| unreadable(&error.to_string(), &self.handle).with_source(error))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("endpoint", self.endpoint())
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A body that cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("it is compressed, though no compression was agreed on")]
    NotAgreed,
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

pub(super) fn decompress(body: &Bytes, handle: &Handle) -> Result<Bytes, BodyError> {
    let negotiated = handle.negotiated();
    let compression = negotiated.compression.ok_or(BodyError::NotAgreed)?;
    Ok(compression.decompress(body, negotiated.receive_limit)?)
}

fn unreadable(reason: &str, handle: &Handle) -> RpcError {
    let message = format!("the result cannot be read: {reason}");
    RpcError::new(Code::Internal, Execution::Done, Phase::Answer, message).at(handle.endpoint())
}
