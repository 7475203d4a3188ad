//! The errors of a server as a whole.

use farcall_discovery::InstanceError;
use farcall_protocol::{Code, Status};
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
    /// A name is empty, over 256 bytes, or has white space or control characters in it.
    #[error("name {name:?}: 1 to 256 bytes without white space and control characters are allowed")]
    BadName {
        /// The name.
        name: String,
    },
    /// The name of a method that was added without a service is not `Service.method`.
    #[error("method {name:?}: its name must be `Service.method`")]
    NoService {
        /// The name.
        name: String,
    },
    /// A method was declared `once`, and there is no such method.
    #[error("method `{name}` is declared `once`, and there is no such method: add it first")]
    UnknownOnce {
        /// The name.
        name: String,
    },
    /// A method that streams was declared `once`.
    #[error("method `{name}` is declared `once`, and streams: items are not kept for a second try")]
    OnceStream {
        /// The name.
        name: String,
    },
    /// The store of the calls that are carried out once has an empty name, which clients take for none.
    #[error("the store of `OnceOptions::store` has no name: `DedupStore::name` is empty")]
    NoStoreName,
    /// An address does not parse.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no address to listen on.
    #[error("no address to listen on: add one with `listen`")]
    NoAddress,
    /// A server that registers advertises no address, and listens on one that cannot be dialed.
    #[error("{address} can be listened on, but not dialed: say with `advertise` what others are to dial")]
    NotDialable {
        /// The address that it listens on.
        address: Address,
    },
    /// A server that registers neither advertises an address nor listens on one.
    #[error("registering: no address to dial: add one with `advertise`")]
    NothingToDial,
    /// A server advertises port 0, and listens on no address of that scheme.
    #[error("advertising {address}: no address of that scheme is listened on, whose port it could have")]
    NoBoundPort {
        /// The advertised address.
        address: Address,
    },
    /// A server that registers offers no service.
    #[error("registering: there is no service to register: add one, or a name with `register_as`")]
    NothingToRegister,
    /// One id was given to several addresses, which would replace each other.
    #[error("registering: the id `{id}` is for one address, and several are advertised")]
    SharedId {
        /// The id.
        id: String,
    },
    /// The description of the server cannot be registered.
    #[error("registering: {0}")]
    Instance(#[from] InstanceError),
}

/// A server that cannot be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The server cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The server cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Returns the status for connections and calls that come when the server stops.
pub(crate) fn stopping() -> Status {
    Status::refused(Code::Unavailable, "the server is stopping")
}
