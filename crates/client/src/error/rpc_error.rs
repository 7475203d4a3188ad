//! farcall's own error of a call.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farcall_protocol::metadata::RETRY_AFTER_MS;
use farcall_protocol::text::{shown_name, untold_cause};
use farcall_protocol::{Code, Codec, DecodeError, EscapedText, Execution, Metadata, Status};
use farcall_transport::Address;
use serde::de::DeserializeOwned;

use super::attempt_log::AttemptLog;
use super::phase::Phase;

/// farcall's own error of a call: its code, the endpoint, the phase, and whether the work may have
/// happened.
///
/// ```text
/// connecting to tcp@10.0.0.3:7001: no answer to the handshake within 10 s (unavailable, not_sent)
/// ```
///
/// The error of a call with several attempts is that of the last one, unless an earlier one may
/// have done something; it ends with `, after 3 attempts: tcp@10.0.0.1:7001, tcp@10.0.0.2:7001, ...`.
///
/// A handler can return it as a [`Status`]: the code is kept, the message names the nested call, and the execution is
/// `done` if the nested call was done, else `maybe`, since the handler itself did run.
///
/// ```
/// use farcall_client::{Channel, Phase, RpcError};
/// use farcall_protocol::{Code, Execution, Status};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Channel::to("unix@/there/is/no/such/socket")?;
/// let error: RpcError = channel.call::<()>("Arith.multiply", &(6, 7)).await.unwrap_err().into();
/// assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
/// assert_eq!((error.phase(), error.method()), (Phase::Connect, Some("Arith.multiply")));
///
/// let status = Status::from(error);
/// assert_eq!((status.code, status.execution), (Code::Unavailable, Execution::Maybe));
/// assert!(status.message.starts_with("calling `Arith.multiply`: "));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RpcError {
    // Boxed, since it is part of the result of every call.
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
    attempts: Option<Box<AttemptLog>>,
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
    /// Creates the error of a call that was not sent, in the phase [`Phase::Prepare`], as for a layer that refuses a
    /// call.
    #[must_use]
    pub fn not_sent(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Execution::NotSent, Phase::Prepare, message)
    }

    pub(crate) fn new(code: Code, execution: Execution, phase: Phase, message: impl Into<String>) -> Self {
        Self::from_status(Status::new(code, execution, message), phase)
    }

    pub(crate) fn from_status(mut status: Status, phase: Phase) -> Self {
        if status.message.is_empty() {
            // A server need not say more than the code.
            status.message = status.code.name().to_owned();
        }
        let inner = Inner {
            status,
            phase,
            endpoint: None,
            details: None,
            metadata: None,
            method: None,
            attempts: None,
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

    /// Names the method that was called, unless it is named already.
    #[cold]
    pub(crate) fn of(mut self, method: Cow<'static, str>) -> Self {
        self.inner.method.get_or_insert(method);
        self
    }

    /// Adds the failed attempts, if there were several.
    pub(crate) fn with_attempts(mut self, attempts: AttemptLog) -> Self {
        self.inner.attempts = (attempts.attempts() > 1).then(|| Box::new(attempts));
        self
    }

    pub(crate) fn with_source(self, source: impl Error + Send + Sync + 'static) -> Self {
        self.with_shared_source(Arc::new(source))
    }

    pub(crate) fn with_shared_source(mut self, source: Arc<dyn Error + Send + Sync>) -> Self {
        self.inner.source = Some(source);
        self
    }

    /// Returns the error of a call that has had items, or that was made before: some of the work may have been done,
    /// whatever the last answer says.
    pub(crate) fn after_items(mut self) -> Self {
        if matches!(self.execution(), Execution::Refused | Execution::NotSent) {
            self.inner.status.execution = Execution::Maybe;
        }
        self
    }

    /// Returns `true` if connecting failed for a reason other than the call's deadline.
    pub(crate) fn is_unconnected(&self) -> bool {
        matches!(self.phase(), Phase::Resolve | Phase::Connect | Phase::Handshake)
            && self.execution() == Execution::NotSent
            && self.code() != Code::DeadlineExceeded
    }

    /// Returns the code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.inner.status.code
    }

    /// Returns whether the work may have happened.
    #[must_use]
    pub fn execution(&self) -> Execution {
        self.inner.status.execution
    }

    /// Returns the message, a sentence. Escape it with [`EscapedText`] where it is shown, since it may be the
    /// peer's.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.status.message
    }

    /// Returns the error that this one was made of, such as that of a codec or of a dial, which can be downcast. Its text
    /// is part of the [`message`](RpcError::message) in most cases, and [`Error::source`] does not tell it again.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }

    /// Returns the phase in which the call failed.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.inner.phase
    }

    /// Returns the endpoint; `None` if the call failed before one was picked.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Address> {
        self.inner.endpoint.as_ref()
    }

    /// Returns the method that was called, such as `Arith.multiply`; `None` if the error is not a call's, as
    /// that of [`Connection::open`](crate::Connection::open).
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        self.inner.method.as_deref()
    }

    /// Returns the number of attempts, including those that could not connect; 1 if the call was not retried.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.inner.attempts.as_ref().map_or(1, |attempts| attempts.attempts())
    }

    /// Returns the endpoints of the attempts in order, each once, and the first 8 at most; empty if
    /// there was one attempt, whose endpoint is [`RpcError::endpoint`].
    #[must_use]
    pub fn tried_endpoints(&self) -> &[Address] {
        self.inner.attempts.as_ref().map_or(&[], |attempts| attempts.endpoints())
    }

    /// Returns metadata that came with the error.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.inner.metadata.as_ref()?.get(key)
    }

    /// Returns the time after which the server asks for another attempt; `None` if it does not. Calls that are retried
    /// heed it: see [`RetryPolicy`](crate::RetryPolicy).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.metadata(RETRY_AFTER_MS)?.parse().ok().map(Duration::from_millis)
    }

    /// Decodes the details that the method returned with the error: for the code `application`, the method's own
    /// error. `None` if there are none.
    ///
    /// # Errors
    ///
    /// The details are not a `T`.
    pub fn details<T: DeserializeOwned>(&self) -> Option<Result<T, DecodeError>> {
        let (codec, details) = self.inner.details.as_ref()?;
        Some(codec.decode(details))
    }
}

impl From<RpcError> for Status {
    /// Creates the status of a handler that fails because a call that it made failed. The message leaves the endpoint
    /// out, which may be of no concern to the handler's caller.
    fn from(error: RpcError) -> Self {
        let Inner { status, method, .. } = *error.inner;
        let execution = match status.execution {
            Execution::Done => Execution::Done,
            // Whatever became of the nested call, the handler has begun its work.
            _ => Execution::Maybe,
        };
        let message = match method {
            Some(method) => format!("calling `{}`: {}", shown_name(&method), status.message),
            None => status.message,
        };
        Self::new(status.code, execution, message)
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { status, phase, endpoint, attempts, .. } = &*self.inner;
        if let Some(endpoint) = endpoint {
            write!(f, "{} {endpoint}: ", phase.text())?;
        }
        write!(f, "{} ({}, {})", EscapedText(&status.message), status.code, status.execution)?;
        attempts.as_ref().map_or(Ok(()), |attempts| write!(f, ", {attempts}"))
    }
}

impl fmt::Debug for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { status, phase, endpoint, method, attempts, source, .. } = &*self.inner;
        f.debug_struct("RpcError")
            .field("code", &status.code)
            .field("execution", &status.execution)
            .field("message", &status.message)
            .field("phase", phase)
            .field("endpoint", endpoint)
            .field("method", method)
            .field("attempts", attempts)
            .field("source", source)
            .finish_non_exhaustive()
    }
}

impl Error for RpcError {
    /// Returns the first of the errors below this one that its text does not tell already; see [`RpcError::cause`] for all
    /// of them.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // Their texts are in the message, or with the phase and the endpoint before it; neither is escaped.
        let Inner { status, phase, endpoint, .. } = &*self.inner;
        let message = &status.message;
        let told = match endpoint {
            Some(endpoint) => format!("{} {endpoint}: {message}", phase.text()),
            None => message.clone(),
        };
        untold_cause(&told, self.cause())
    }
}

#[cfg(test)]
mod tests {
    use farcall_test_support::errors::assert_told_once;

    use super::*;

    #[test]
    fn status_of_a_nested_error_keeps_the_code_and_is_done_only_if_the_call_was() {
        for (execution, expected) in [
            (Execution::Done, Execution::Done),
            (Execution::Maybe, Execution::Maybe),
            (Execution::Refused, Execution::Maybe),
            (Execution::NotSent, Execution::Maybe),
        ] {
            let endpoint = Address::parse("tcp@10.0.0.3:7001").unwrap();
            let error = RpcError::new(Code::DeadlineExceeded, execution, Phase::Wait, "no answer within 1 s");
            let status = Status::from(error.at(&endpoint).of("Stock.take".into()));
            let message = "calling `Stock.take`: no answer within 1 s";
            assert_eq!(status, Status::new(Code::DeadlineExceeded, expected, message));
        }
    }

    #[test]
    fn message_of_a_server_that_gave_none_is_the_code() {
        let error = RpcError::from_status(Status::refused(Code::Unavailable, ""), Phase::Wait);
        assert_eq!(error.to_string(), "unavailable (unavailable, refused)");
    }

    #[test]
    fn chain_of_an_error_has_each_fact_once() {
        let endpoint = Address::parse("tcp@10.0.0.3:7001").unwrap();
        let error = RpcError::not_sent(Code::Unavailable, "the bus\n is off").at(&endpoint);
        let told = error.clone().with_source(std::io::Error::other("the bus\n is off"));
        assert!(told.source().is_none(), "{told}");
        assert_told_once(&told);
        assert_eq!(told.cause().unwrap().to_string(), "the bus\n is off");
        let untold = error.with_source(std::io::Error::other("the driver is asleep"));
        assert_eq!(untold.source().unwrap().to_string(), "the driver is asleep");
        assert_told_once(&untold);
    }

    #[test]
    fn long_name_of_a_method_leaves_room_for_the_reason() {
        let error = RpcError::not_sent(Code::Unavailable, "it is gone").of("x".repeat(100_000).into());
        let message = Status::from(error).message;
        assert_eq!(message, format!("calling `{}…`: it is gone", "x".repeat(128)));
    }

    #[test]
    fn first_named_method_stays() {
        let error = RpcError::not_sent(Code::Unavailable, "no").of("A.a".into()).of("B.b".into());
        assert_eq!(error.method(), Some("A.a"));
    }
}
