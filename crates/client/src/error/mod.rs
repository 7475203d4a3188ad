//! What can go wrong with a call, and what is known of it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use farcall_protocol::{Code, Codec, DecodeError, EscapedText, Execution, Metadata, Status};
use farcall_transport::{Address, AddressError};
use serde::de::DeserializeOwned;

use self::attempt_log::Tries;

pub(crate) mod attempt_log;

/// Why a call failed: the method's own error as it returned it, or farcall's.
///
/// `E` is the error type of the method; [`Infallible`] where it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<E = Infallible> {
    /// The method itself returned an error.
    Application(E),
    /// The call did not get that far, or its answer did not get back.
    Rpc(RpcError),
}

impl<E> CallError<E> {
    /// The method's own error.
    pub const fn application(&self) -> Option<&E> {
        match self {
            Self::Application(error) => Some(error),
            Self::Rpc(_) => None,
        }
    }

    /// farcall's error.
    pub const fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Application(_) => None,
            Self::Rpc(error) => Some(error),
        }
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.rpc().map_or(Code::Application, RpcError::code)
    }

    /// Whether the work may have happened.
    pub fn execution(&self) -> Execution {
        self.rpc().map_or(Execution::Done, RpcError::execution)
    }
}

impl<E> From<RpcError> for CallError<E> {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<CallError> for RpcError {
    /// Without an error of the method's own, there is only farcall's.
    fn from(error: CallError) -> Self {
        match error {
            CallError::Application(never) => match never {},
            CallError::Rpc(error) => error,
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application(error) => error.fmt(f),
            Self::Rpc(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.rpc().and_then(Error::source)
    }
}

/// How far a call had got when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Encoding its arguments, and what else happens before an endpoint is asked.
    Prepare,
    /// Choosing an endpoint.
    Pick,
    /// Finding the addresses of a name.
    Resolve,
    /// Opening a connection.
    Connect,
    /// Agreeing on terms.
    Handshake,
    /// Waiting for a place among the calls that the server runs at once.
    Queue,
    /// Writing the request.
    Write,
    /// Waiting for the answer.
    Wait,
    /// The answer came, and is an error or cannot be read.
    Answer,
}

impl Phase {
    /// The phase as the beginning of a sentence about an endpoint.
    const fn text(self) -> &'static str {
        match self {
            Self::Prepare => "calling",
            Self::Pick => "choosing",
            Self::Resolve => "resolving",
            Self::Connect | Self::Handshake => "connecting to",
            Self::Queue => "waiting for a place at",
            Self::Write => "writing to",
            Self::Wait => "waiting for",
            Self::Answer => "answer of",
        }
    }
}

/// farcall's own error of a call: what, where, in which phase, and whether the work may have
/// happened.
///
/// ```text
/// connecting to tcp@10.0.0.3:7001: no answer to the handshake within 10 s (unavailable, not_sent)
/// ```
///
/// The error of a call that was made several times is that of its last try, unless an earlier one may
/// have done something; it ends with `, after 3 tries: tcp@10.0.0.1:7001, tcp@10.0.0.2:7001, ...`.
#[derive(Clone, PartialEq, Eq)]
pub struct RpcError {
    // Boxed, since it is in every result of a call.
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    status: Status,
    phase: Phase,
    endpoint: Option<Address>,
    details: Option<(Codec, Bytes)>,
    metadata: Option<Box<Metadata>>,
    method: Option<Cow<'static, str>>,
    tries: Option<Box<Tries>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl PartialEq for Inner {
    fn eq(&self, other: &Self) -> bool {
        (&self.status, self.phase, &self.endpoint, &self.details)
            == (&other.status, other.phase, &other.endpoint, &other.details)
    }
}

impl Eq for Inner {}

impl RpcError {
    pub(crate) fn new(code: Code, execution: Execution, phase: Phase, message: impl Into<String>) -> Self {
        Self::from_status(Status::new(code, execution, message), phase)
    }

    pub(crate) fn from_status(status: Status, phase: Phase) -> Self {
        let inner = Inner {
            status,
            phase,
            endpoint: None,
            details: None,
            metadata: None,
            method: None,
            tries: None,
            source: None,
        };
        Self { inner: Box::new(inner) }
    }

    pub(crate) fn at(mut self, endpoint: &Address) -> Self {
        self.inner.endpoint = Some(endpoint.clone());
        self
    }

    pub(crate) fn with_details(mut self, codec: Codec, details: Bytes) -> Self {
        self.inner.details = Some((codec, details));
        self
    }

    pub(crate) fn with_metadata(mut self, metadata: Option<Box<Metadata>>) -> Self {
        self.inner.metadata = metadata;
        self
    }

    /// Says which method was called.
    pub(crate) fn of(mut self, method: Cow<'static, str>) -> Self {
        self.inner.method = Some(method);
        self
    }

    /// Says how often the call was made, if more than once.
    pub(crate) fn after(mut self, tries: Tries) -> Self {
        self.inner.tries = (tries.made() > 1).then(|| Box::new(tries));
        self
    }

    /// Whether no connection could be made, for another reason than that the call had no time left.
    pub(crate) fn is_unconnected(&self) -> bool {
        matches!(self.phase(), Phase::Resolve | Phase::Connect | Phase::Handshake)
            && self.execution() == Execution::NotSent
            && self.code() != Code::DeadlineExceeded
    }

    pub(crate) fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.inner.source = Some(Arc::new(source));
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn code(&self) -> Code {
        self.inner.status.code
    }

    /// Whether the work may have happened.
    #[must_use]
    pub fn execution(&self) -> Execution {
        self.inner.status.execution
    }

    /// A sentence about it; escape it with [`EscapedText`] where it is shown, since it may be the
    /// peer's.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.status.message
    }

    /// How far the call had got.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.inner.phase
    }

    /// Whom it was for; none where it failed before one was chosen.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Address> {
        self.inner.endpoint.as_ref()
    }

    /// The method that was called, such as `Arith.multiply`; none where the error is of no call, as
    /// that of [`Connection::open`](crate::Connection::open).
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        self.inner.method.as_deref()
    }

    /// How often the call was tried, those tries included that found nobody to connect to; 1 where
    /// there was no further try.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.inner.tries.as_ref().map_or(1, |tries| tries.made())
    }

    /// Where the call was tried, in order, each endpoint once, and the first 8 at most; empty where
    /// there was one try only, of which [`RpcError::endpoint`] tells.
    #[must_use]
    pub fn tried(&self) -> &[Address] {
        self.inner.tries.as_ref().map_or(&[], |tries| tries.at())
    }

    /// Metadata that came with the error.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.inner.metadata.as_ref()?.get(key)
    }

    /// The error that this one was made of, such as that of a codec; its text is part of
    /// [`RpcError::message`].
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }

    /// What the method said beside its message: for the code `application` its error, encoded.
    /// None where there is nothing.
    ///
    /// # Errors
    ///
    /// The details are not of this type.
    pub fn details<T: DeserializeOwned>(&self) -> Option<Result<T, DecodeError>> {
        let (codec, details) = self.inner.details.as_ref()?;
        Some(codec.decode(details))
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { status, phase, endpoint, tries, .. } = &*self.inner;
        if let Some(endpoint) = endpoint {
            write!(f, "{} {endpoint}: ", phase.text())?;
        }
        write!(f, "{} ({}, {})", EscapedText(&status.message), status.code, status.execution)?;
        tries.as_ref().map_or(Ok(()), |tries| write!(f, ", {tries}"))
    }
}

impl fmt::Debug for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { status, phase, endpoint, method, tries, source, .. } = &*self.inner;
        f.debug_struct("RpcError")
            .field("code", &status.code)
            .field("execution", &status.execution)
            .field("message", &status.message)
            .field("phase", phase)
            .field("endpoint", endpoint)
            .field("method", method)
            .field("tries", tries)
            .field("source", source)
            .finish_non_exhaustive()
    }
}

impl Error for RpcError {
    /// What lies behind the [cause](RpcError::cause), whose own text is told already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().and_then(Error::source)
    }
}

/// A channel that cannot be built.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The address does not parse.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is nobody to call.
    #[error("no address: give one with `Channel::to` or `ChannelBuilder::to`, or a source of them")]
    NoAddress,
    /// There are both.
    #[error("addresses and a source of addresses: give one or the other")]
    AddressesAndDiscovery,
}
