//! [`EtcdRegistrar`]: keeps instances in etcd as keys under leases.

use std::time::Duration;

use farcall_discovery::{Instance, Registered, Registrar, RegistrarError, RegistrarErrorKind, Renewal};
use tracing::debug;

use crate::call_error::CallError;
use crate::client::Client;
use crate::error::EtcdOptionsError;
use crate::keys::Keys;
use crate::options::EtcdOptions;
use crate::wire::{
    Done, Int64, LeaseGrantAnswer, LeaseGrantRequest, LeaseKeepAliveAnswer, LeaseRequest, PutRequest,
    RangeAnswer, RangeRequest,
};

/// The number of renewals in the time of a lease: two may fail, and nothing is lost.
const RENEWALS: u32 = 3;

/// Registers instances in etcd, each under a separate lease.
///
/// The lease lasts for [`Instance::ttl_ms`], or else [`EtcdOptions::ttl`], and should be
/// renewed after a third of that. A renewal also finds out if the key was deleted; then,
/// and if the lease is lost, the instance has to be registered again, which
/// [`keep_registered`](farcall_discovery::keep_registered) does. Deregistering revokes the lease, and
/// the key goes with it at once. A clone shares connections and token.
#[derive(Clone, Debug)]
pub struct EtcdRegistrar {
    client: Client,
    prefix: String,
    ttl: Duration,
}

/// The lease of a registration.
#[derive(Debug)]
pub struct EtcdLease(Int64);

impl EtcdRegistrar {
    /// Creates a registrar. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// A setting is invalid; the error names it, and its limits.
    pub fn new(config: &EtcdOptions) -> Result<Self, EtcdOptionsError> {
        Ok(Self { client: Client::new(config)?, prefix: config.prefix.clone(), ttl: config.ttl })
    }

    fn key(&self, instance: &Instance) -> String {
        Keys::new(&self.prefix, &instance.service).key(&instance.id)
    }

    async fn revoke(&self, lease: Int64) -> Result<(), CallError> {
        match self.client.call::<Done>("lease/revoke", &LeaseRequest { id: lease }).await {
            // It expired, and the key with it.
            Err(error) if error.kind.is_not_found() => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

impl Registrar for EtcdRegistrar {
    type Lease = EtcdLease;

    fn describe(&self) -> String {
        format!("etcd at {}", self.client.endpoints())
    }

    async fn register(&self, instance: &Instance) -> Result<Registered<EtcdLease>, RegistrarError> {
        let instance = instance.clone().check()?;
        let ttl = instance.ttl_ms.map_or(self.ttl, Duration::from_millis);
        let request = LeaseGrantRequest { ttl: Int64(whole_seconds(ttl)) };
        let granted: LeaseGrantAnswer =
            self.client.call("lease/grant", &request).await.map_err(registrar_error)?;

        let value = serde_json::to_vec(&instance)
            .map_err(|error| RegistrarError::from_source(RegistrarErrorKind::Other, error))?;
        let key = self.key(&instance);
        let request = PutRequest {
            key: key.as_str().into(),
            value: value.as_slice().into(),
            lease: granted.id,
            ignore_lease: false,
        };
        if let Err(error) = self.client.call::<Done>("kv/put", &request).await {
            // A permanent refusal, such as a missing permission, must leave no lease behind. A lease that cannot be
            // revoked either expires.
            if !error.kind.may_differ_elsewhere()
                && let Err(error) = self.revoke(granted.id).await
            {
                debug!(%error, "an unused lease is left to expire");
            }
            return Err(registrar_error(error));
        }
        Ok(Registered::new(EtcdLease(granted.id), heartbeat(granted.ttl)))
    }

    async fn renew(&self, instance: &Instance, lease: &mut EtcdLease) -> Result<Renewal, RegistrarError> {
        let request = LeaseRequest { id: lease.0 };
        let kept: LeaseKeepAliveAnswer =
            self.client.call("lease/keepalive", &request).await.map_err(registrar_error)?;
        if kept.result.ttl.0 <= 0 {
            return Ok(Renewal::Unknown);
        }
        // The lease lives even if the key was deleted by hand.
        let instance = instance.clone().check()?;
        let request = RangeRequest {
            key: self.key(&instance).as_str().into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let there: RangeAnswer = self.client.call("kv/range", &request).await.map_err(registrar_error)?;
        if there.count.0 == 0 {
            // The lease would hold nothing for the rest of its time.
            self.revoke(lease.0).await.map_err(registrar_error)?;
            return Ok(Renewal::Unknown);
        }
        Ok(Renewal::Renewed(heartbeat(kept.result.ttl)))
    }

    async fn deregister(&self, _: &Instance, lease: EtcdLease) -> Result<(), RegistrarError> {
        self.revoke(lease.0).await.map_err(registrar_error)
    }
}

fn registrar_error(error: CallError) -> RegistrarError {
    RegistrarError::from_source(error.kind.registrar_error_kind(), error)
}

fn whole_seconds(ttl: Duration) -> i64 {
    // At most a day, which `Instance::check` and `EtcdOptions::check` ensure.
    ttl.as_secs() as i64 + i64::from(ttl.subsec_nanos() > 0)
}

fn heartbeat(ttl: Int64) -> Duration {
    // Bounds against absurd answers.
    let ttl = Duration::from_secs(ttl.0.clamp(1, 2 * 24 * 60 * 60) as u64);
    ttl / RENEWALS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_has_whole_seconds_and_is_renewed_after_a_third() {
        assert_eq!(whole_seconds(Duration::from_secs(15)), 15);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(heartbeat(Int64(15)), Duration::from_secs(5));
        assert_eq!(heartbeat(Int64(i64::MAX)), Duration::from_secs(16 * 60 * 60));
        assert!(heartbeat(Int64(-1)) > Duration::ZERO);
    }
}
