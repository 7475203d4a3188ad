//! What can go wrong with a server as a whole.

use farcall_transport::{AddressError, ListenError};
use thiserror::Error;

/// A server that cannot be built.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// Two methods have the same full name.
    #[error("method `{name}` is registered twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A service is called `farcall`, or `farcall.` and more, as only the reserved methods are.
    #[error("service name `{name}` is reserved")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// A name that is empty, over 256 bytes, or has white space or control characters in it.
    #[error("name {name:?}: 1 to 256 bytes without white space and control characters are allowed")]
    BadName {
        /// The name.
        name: String,
    },
    /// A method that was added by itself is not called `Service.method`.
    #[error("method {name:?}: its name must be `Service.method`")]
    NoService {
        /// The name.
        name: String,
    },
    /// An address that does not parse.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is nothing to listen on.
    #[error("no address to listen on: add one with `listen`")]
    NoAddress,
}

/// A server that cannot be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
}
