//! [`ConsulRegistrar`]: keeps instances in Consul's agent, each with a check that has a time to live.

use std::time::Duration;

use farcall_discovery::{Instance, Registered, Registrar, RegistrarError, Renewal};

use crate::client::{Client, segment};
use crate::entry::registration;
use crate::error::ConsulOptionsError;
use crate::options::ConsulOptions;

/// The number of renewals in the time to live of a check: two may fail, and nothing is lost.
const RENEWALS: u32 = 3;

/// Registers instances in Consul's agent, each with a check.
///
/// The check passes for [`Instance::ttl_ms`], or else [`ConsulOptions::ttl`], and should be renewed after a third of that.
/// An agent that does not know it any more, such as one that has lost its data, is told of the instance again, which
/// [`keep_registered`](farcall_discovery::keep_registered) does. Deregistering removes the instance at once.
/// A clone shares connections, and registers the same instance in the same place.
#[derive(Clone, Debug)]
pub struct ConsulRegistrar {
    client: Client,
    tags: Vec<String>,
    ttl: Duration,
    /// Keeps the instances of this registrar apart from those of another one with the same address.
    number: u64,
}

/// The name of a registered instance in Consul.
#[derive(Debug)]
pub struct ConsulLease(String);

impl ConsulRegistrar {
    /// Creates a registrar. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// An option is invalid; the error names it, and its limits.
    pub fn new(options: &ConsulOptions) -> Result<Self, ConsulOptionsError> {
        Ok(Self {
            client: Client::new(options)?,
            tags: options.tags.clone(),
            ttl: options.ttl,
            number: fastrand::u64(..),
        })
    }

    fn ttl(&self, instance: &Instance) -> Duration {
        instance.ttl_ms.map_or(self.ttl, Duration::from_millis)
    }
}

impl Registrar for ConsulRegistrar {
    type Lease = ConsulLease;

    fn describe(&self) -> String {
        format!("Consul at {}", self.client.place())
    }

    async fn register(&self, instance: &Instance) -> Result<Registered<ConsulLease>, RegistrarError> {
        let instance = instance.clone().check()?;
        let ttl = self.ttl(&instance);
        let id = format!("farcall:{}:{}:{:016x}", instance.service, instance.id, self.number);
        let body = registration(&instance, &id, &self.tags, ttl)?;
        self.client.put("/v1/agent/service/register", Some(&body)).await?;
        Ok(Registered::new(ConsulLease(id), ttl / RENEWALS))
    }

    async fn renew(&self, instance: &Instance, lease: &mut ConsulLease) -> Result<Renewal, RegistrarError> {
        // The check of a service that has one has its name.
        let path = format!("/v1/agent/check/pass/{}", segment(&format!("service:{}", lease.0)));
        match self.client.put(&path, None::<&()>).await {
            Ok(()) => Ok(Renewal::Renewed(self.ttl(instance) / RENEWALS)),
            Err(error) if error.is_unknown() => Ok(Renewal::Unknown),
            Err(error) => Err(error.into()),
        }
    }

    async fn deregister(&self, _: &Instance, lease: ConsulLease) -> Result<(), RegistrarError> {
        let path = format!("/v1/agent/service/deregister/{}", segment(&lease.0));
        match self.client.put(&path, None::<&()>).await {
            Err(error) if error.is_unknown() => Ok(()),
            outcome => Ok(outcome?),
        }
    }
}
