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
    /// A limit is zero with which no client could be served.
    #[error("`Limits::{limit}` is zero, so that no client could be served: set more, or `None` for no limit")]
    ZeroLimit {
        /// The name of its setter.
        limit: &'static str,
    },
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
    Instance(InstanceError),
}

impl From<InstanceError> for BuildError {
    fn from(error: InstanceError) -> Self {
        Self::Instance(error)
    }
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

#[cfg(test)]
mod tests {
    use std::io;

    use farcall_protocol::stream::StreamClosed;
    use farcall_protocol::{Codec, DecodeError, Part, TooLarge};
    use farcall_test_support::errors::assert_told_once;
    use serde::ser::{Error as _, Serialize, Serializer};

    use super::*;
    use crate::auth::tokens::{TokenErrorKind, Tokens, TokensError};
    use crate::call::invoked_stream::InputError;
    use crate::stream::error::{ReceiveError, SendError};

    struct Torn;

    impl Serialize for Torn {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("it is torn"))
        }
    }

    #[test]
    fn chain_of_an_error_has_each_fact_once() {
        let address = Address::parse("tcp@10.0.0.1:7").unwrap();
        let wrong = || Address::parse("tcp@").unwrap_err();
        let build: BuildError = InstanceError::from(wrong()).into();
        assert_told_once(&build);
        assert_told_once(&ServeError::from(build));
        assert_told_once(&BuildError::from(wrong()));
        let listen = ListenError::InUse { address, error: io::Error::from(io::ErrorKind::AddrInUse) };
        assert_told_once(&ServeError::from(listen));
        let line = TokensError::Line { path: "tokens".into(), line: 1, kind: TokenErrorKind::Empty };
        assert_told_once(&line);
        assert_told_once(&Tokens::fixed([("a", "")]).map(drop).unwrap_err());
        assert_told_once(&Tokens::file("/there/is/none").map(drop).unwrap_err());
        let too_large = || TooLarge::new(Part::Body, 2, 1);
        assert_told_once(&SendError::from(too_large()));
        assert_told_once(&InputError::from(too_large()));
        assert_told_once(&SendError::from(StreamClosed::Ended));
        let encode = Codec::Json.encode(&Torn).unwrap_err();
        assert_told_once(&SendError::from(encode));
        let decode = DecodeError::Truncated { at: 1 };
        assert_told_once(&ReceiveError::Decode { index: 0, error: decode });
    }
}
