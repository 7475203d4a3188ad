//! The errors of the halves of a stream.

use farcall_protocol::{
    Code, CompressionError, DecodeError, EncodeError, MethodError, Status, TooLarge, stream::StreamClosed,
};
use thiserror::Error;

/// The error of an item that was not sent. In a method that returns a [`Status`] or a [`MethodError`], `?` passes it on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The caller takes no more items, and still waits for the response.
    #[error("the caller takes no more items")]
    Stopped,
    /// The call has ended: it was stopped, or its connection has ended.
    #[error("the call has ended")]
    Ended,
    /// The item cannot be encoded.
    #[error("the item: {0}")]
    Encode(EncodeError),
    /// The item is larger than a frame of the caller may be.
    #[error("the item: {0}")]
    TooLarge(TooLarge),
}

/// The error of an item that was not received. In a method that returns a [`Status`] or a [`MethodError`], `?` passes it on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The item is not of the method's type.
    #[error("item {index}: {error}")]
    Decode {
        /// The position of the item, from 0.
        index: u64,
        /// The mistake and its place.
        error: DecodeError,
    },
    /// The item is compressed, though that was not agreed on.
    #[error("item {index}: it is compressed, though no compression was agreed on")]
    NoCompression {
        /// The position of the item, from 0.
        index: u64,
    },
    /// The item does not decompress.
    #[error("item {index}: {error}")]
    Compression {
        /// The position of the item, from 0.
        index: u64,
        /// The mistake.
        error: CompressionError,
    },
    /// The call has ended before the caller said that it had sent all items.
    #[error("the call has ended before the last item")]
    Ended,
}

impl From<StreamClosed> for SendError {
    fn from(closed: StreamClosed) -> Self {
        match closed {
            StreamClosed::Stopped => Self::Stopped,
            StreamClosed::Ended => Self::Ended,
        }
    }
}

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<TooLarge> for SendError {
    fn from(error: TooLarge) -> Self {
        Self::TooLarge(error)
    }
}

impl From<SendError> for Status {
    /// Creates the status of a handler that fails because it could not send.
    fn from(error: SendError) -> Self {
        let code = match &error {
            SendError::Stopped | SendError::Ended => Code::Cancelled,
            SendError::Encode(_) => Code::Internal,
            SendError::TooLarge(_) => Code::ResourceExhausted,
        };
        Self::done(code, error.to_string())
    }
}

impl From<ReceiveError> for Status {
    /// Creates the status of a handler that fails because it could not receive.
    fn from(error: ReceiveError) -> Self {
        let code = match &error {
            ReceiveError::Decode { .. }
            | ReceiveError::NoCompression { .. }
            | ReceiveError::Compression { .. } => Code::InvalidArgument,
            ReceiveError::Ended => Code::Cancelled,
        };
        Self::done(code, error.to_string())
    }
}

impl<E> From<SendError> for MethodError<E> {
    fn from(error: SendError) -> Self {
        Self::Status(error.into())
    }
}

impl<E> From<ReceiveError> for MethodError<E> {
    fn from(error: ReceiveError) -> Self {
        Self::Status(error.into())
    }
}
