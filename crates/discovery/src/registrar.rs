//! [`Registrar`]: where a server makes itself known. How it stays known is in `keep_registered`.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::text::untold_cause;

use crate::instance::{Instance, InstanceError};

/// A place where instances are registered: a registry, etcd, or what a user writes.
///
/// It makes one request at a time and reports the outcome; limits of time, and trying again
/// with pauses, are left to [`keep_registered`](crate::keep_registered). Each future may
/// be dropped before it is ready, and its request may have been executed all the same.
pub trait Registrar: Send + Sync + 'static {
    /// The lease that is held while the instance is registered.
    type Lease: Send;

    /// Returns the place where it registers, for display: `http://registry:7100`.
    fn describe(&self) -> String;

    /// Makes the instance known, also if it is already.
    fn register(
        &self,
        instance: &Instance,
    ) -> impl Future<Output = Result<Registered<Self::Lease>, RegistrarError>> + Send;

    /// Renews the registration.
    fn renew(
        &self,
        instance: &Instance,
        lease: &mut Self::Lease,
    ) -> impl Future<Output = Result<Renewal, RegistrarError>> + Send;

    /// Takes it away, at once.
    fn deregister(
        &self,
        instance: &Instance,
        lease: Self::Lease,
    ) -> impl Future<Output = Result<(), RegistrarError>> + Send;
}

/// A registration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registered<L> {
    /// The lease to renew, and to give back at the end.
    pub lease: L,
    /// The time until it should be renewed.
    pub heartbeat: Duration,
}

impl<L> Registered<L> {
    /// Creates one with this lease, to be renewed after `heartbeat`.
    pub const fn new(lease: L, heartbeat: Duration) -> Self {
        Self { lease, heartbeat }
    }
}

/// The outcome of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewal {
    /// The registration is renewed, and should be again after this time.
    Renewed(Duration),
    /// The registration is not known there, so that the instance must be registered again.
    Unknown,
}

/// A request of a [`Registrar`] that failed. The text is a sentence.
///
/// ```
/// use std::io;
///
/// use farcall_discovery::{RegistrarError, RegistrarErrorKind};
///
/// let refused = RegistrarError::new(RegistrarErrorKind::Rejected, "the zone is full");
/// assert_eq!(refused.to_string(), "the zone is full");
///
/// let cause = io::Error::from(io::ErrorKind::ConnectionRefused);
/// let unreachable = RegistrarError::from_source(RegistrarErrorKind::Unavailable, cause);
/// assert_eq!(unreachable.kind(), RegistrarErrorKind::Unavailable);
/// ```
#[derive(Clone, Debug)]
pub struct RegistrarError {
    kind: RegistrarErrorKind,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`RegistrarError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegistrarErrorKind {
    /// The instance cannot be registered anywhere, such as one with an address that cannot be dialed.
    InvalidInstance,
    /// The place cannot be reached, or cannot answer at present.
    Unavailable,
    /// The place did not answer in time.
    Timeout,
    /// The place rejects the request, such as one without a permission.
    Rejected,
    /// The registrar panicked.
    Panicked,
    /// Anything else.
    Other,
}

impl RegistrarError {
    /// Creates an error with this sentence.
    pub fn new(kind: RegistrarErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Creates an error with this cause, and its text.
    pub fn from_source(kind: RegistrarErrorKind, source: impl Error + Send + Sync + 'static) -> Self {
        Self { kind, message: source.to_string(), source: Some(Arc::new(source)) }
    }

    /// Puts text before the sentence.
    pub(crate) fn with_prefix(mut self, prefix: &str) -> Self {
        self.message.insert_str(0, prefix);
        self
    }

    /// Returns the cause that it was created with, which can be downcast.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }

    /// Returns the kind of the error.
    #[must_use]
    pub const fn kind(&self) -> RegistrarErrorKind {
        self.kind
    }
}

impl fmt::Display for RegistrarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for RegistrarError {
    /// Returns the first of the errors below this one that its text does not tell already; see
    /// [`RegistrarError::cause`].
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        untold_cause(&self.message, self.cause())
    }
}

impl From<InstanceError> for RegistrarError {
    fn from(error: InstanceError) -> Self {
        Self::from_source(RegistrarErrorKind::InvalidInstance, error)
    }
}

/// One registrar may serve many instances.
impl<R: Registrar> Registrar for Arc<R> {
    type Lease = R::Lease;

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn register(
        &self,
        instance: &Instance,
    ) -> impl Future<Output = Result<Registered<Self::Lease>, RegistrarError>> + Send {
        (**self).register(instance)
    }

    fn renew(
        &self,
        instance: &Instance,
        lease: &mut Self::Lease,
    ) -> impl Future<Output = Result<Renewal, RegistrarError>> + Send {
        (**self).renew(instance, lease)
    }

    fn deregister(
        &self,
        instance: &Instance,
        lease: Self::Lease,
    ) -> impl Future<Output = Result<(), RegistrarError>> + Send {
        (**self).deregister(instance, lease)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use farcall_test_support::errors::assert_told_once;
    use farcall_transport::{Address, AddressError};

    use super::*;
    use crate::dns::DnsDiscoveryError;

    #[test]
    fn chain_of_an_error_has_each_fact_once() {
        let address = || -> AddressError { Address::parse("tcp@").unwrap_err() };
        assert_told_once(&InstanceError::from(address()));
        assert_told_once(&DnsDiscoveryError::from(address()));
        assert_told_once(&RegistrarError::from(InstanceError::from(address())));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = RegistrarError::from_source(RegistrarErrorKind::Unavailable, refused);
        assert_told_once(&error);
        assert!(error.cause().unwrap().is::<io::Error>());
    }

    #[cfg(feature = "http-source")]
    #[test]
    fn chain_of_an_error_of_a_token_has_each_fact_once() {
        use farcall_tls::read_file;

        use crate::source::{TokenError, TokenFault};

        let unreadable = read_file("/there/is/none".as_ref(), 1).unwrap_err();
        assert_told_once(&TokenError::from(unreadable));
        assert_told_once(&TokenError::Text(TokenFault::Empty));
    }
}
