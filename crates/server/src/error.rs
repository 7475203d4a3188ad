//! What can go wrong with a server as a whole.

use farcall_discovery::InstanceError;
use farcall_transport::{Address, AddressError, ListenError};
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
    /// It is to be registered, says no address to dial, and listens on one that nobody can dial.
    #[error("{address} can be listened on, but not dialed: say with `advertise` what others are to dial")]
    NotDialable {
        /// What it listens on.
        address: Address,
    },
    /// It is to be registered, and neither advertises an address nor listens on one.
    #[error("registering: no address to dial: add one with `advertise`")]
    NothingToDial,
    /// It advertises port 0, and listens on no address of that scheme.
    #[error("advertising {address}: no address of that scheme is listened on, whose port it could have")]
    NoBoundPort {
        /// What is to be advertised.
        address: Address,
    },
    /// It is to be registered, and offers no service.
    #[error("registering: there is no service to register: add one, or a name with `register_as`")]
    NothingToRegister,
    /// One id was given to several addresses, which would replace each other.
    #[error("registering: the id `{id}` is for one address, and several are advertised")]
    SharedId {
        /// The id.
        id: String,
    },
    /// What it says of itself cannot be registered.
    #[error("registering: {0}")]
    Instance(#[from] InstanceError),
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
