//! The errors of nested calls as errors of the method that made them.

use std::fmt;

use farcall_protocol::{MethodError, NoApplicationError};

use super::{CallError, RpcError};

impl From<CallError<NoApplicationError>> for RpcError {
    /// Returns farcall's error, the only one of a method that fails with a [`Status`](farcall_protocol::Status).
    fn from(error: CallError<NoApplicationError>) -> Self {
        match error {
            CallError::Application(never) => match never {},
            CallError::Rpc(error) => error,
        }
    }
}

impl<E> From<RpcError> for MethodError<E> {
    /// Returns the status that `Status::from` makes of it.
    fn from(error: RpcError) -> Self {
        Self::Status(error.into())
    }
}

impl<E, Nested: fmt::Display> From<CallError<Nested>> for MethodError<E> {
    /// Returns the status that `Status::from` makes of it.
    fn from(error: CallError<Nested>) -> Self {
        Self::Status(error.into())
    }
}
