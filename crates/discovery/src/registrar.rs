//! [`Registrar`]: where a server makes itself known. How it stays known is in `keep_registered`.

use std::sync::Arc;
use std::time::Duration;

use crate::instance::Instance;

/// A place where instances are registered: a registry, etcd, or what a user writes.
///
/// It does one thing at a time and reports how it went; limits of time, and trying again, for ever
/// and with pauses, are the business of [`keep_registered`](crate::keep_registered). Each future may
/// be dropped before it is ready, and what it asked for may have happened all the same.
pub trait Registrar: Send + Sync + 'static {
    /// What is held while the instance is registered, such as a lease.
    type Lease: Send;

    /// Where it registers, for people: `http://registry:7100`.
    fn describe(&self) -> String;

    /// Makes the instance known, also if it is already.
    fn register(
        &self,
        instance: &Instance,
    ) -> impl Future<Output = Result<Registered<Self::Lease>, RegistrarError>> + Send;

    /// Says that it lives on.
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
pub struct Registered<L> {
    /// What is to be renewed and given back.
    pub lease: L,
    /// When to renew.
    pub heartbeat: Duration,
}

/// The outcome of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It lives on; when to renew next.
    Renewed(Duration),
    /// Nobody there knows it, so that it must be registered again.
    Unknown,
}

/// Why registering failed: a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegistrarError(pub String);

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
