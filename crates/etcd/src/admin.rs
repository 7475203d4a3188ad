//! [`EtcdAdmin`]: what an operator does with the instances in etcd: list, drain, weigh and remove them.

use std::error::Error;
use std::sync::Arc;

use farcall_discovery::Instance;
use farcall_protocol::BoxError;
use farcall_protocol::text::parse_error;

use crate::call_error::CallError;
use crate::client::Client;
use crate::discovery::services;
use crate::error::EtcdOptionsError;
use crate::keys::Keys;
use crate::listing::MAX_KEYS;
use crate::options::EtcdOptions;
use crate::wire::{Base64, DeleteRequest, Done, Int64, KeyValue, PutRequest, RangeAnswer, RangeRequest};

/// The number of keys that are read at once.
const PAGE: i64 = 1000;

/// The most services that are listed.
const MAX_SERVICES: usize = 10_000;

/// The key of an instance's metadata that remembers its weight while it is drained.
const DRAINED_WEIGHT: &str = "farcall.drained-weight";

/// Lists and changes the instances in etcd, for operators and their tools.
///
/// etcd knows no overrides: a change replaces what the server has written, keeps its lease, and lasts until the server
/// registers again.
#[derive(Clone, Debug)]
pub struct EtcdAdmin {
    client: Client,
    prefix: String,
}

/// The reason why a change or a list failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdAdminError {
    /// etcd was not reached, or refused.
    #[error(transparent)]
    Call(Arc<dyn Error + Send + Sync>),
    /// There is no such instance.
    #[error("there is no instance `{id}` of `{service}`")]
    Unknown {
        /// The service.
        service: String,
        /// The id.
        id: String,
    },
    /// The key holds no instance.
    #[error("the key of `{id}` holds no instance: {reason}")]
    Invalid {
        /// The id.
        id: String,
        /// The error in its value.
        reason: Arc<dyn Error + Send + Sync>,
    },
}

impl From<CallError> for EtcdAdminError {
    fn from(error: CallError) -> Self {
        Self::Call(Arc::new(error))
    }
}

impl EtcdAdmin {
    /// Creates a client. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// The mistake in the options.
    pub fn new(options: &EtcdOptions) -> Result<Self, EtcdOptionsError> {
        Ok(Self { client: Client::new(options)?, prefix: options.prefix.clone() })
    }

    /// Returns the names of the services that have keys, the first 10,000 of them, with a request for each.
    ///
    /// # Errors
    ///
    /// [`EtcdAdminError::Call`].
    pub async fn services(&self) -> Result<Vec<String>, EtcdAdminError> {
        Ok(services(&self.client, &Keys::new(&self.prefix, ""), MAX_SERVICES).await?)
    }

    /// Returns the instances of a service, in the order of their keys. Keys that hold no instance are left out.
    ///
    /// # Errors
    ///
    /// [`EtcdAdminError::Call`].
    pub async fn instances(&self, service: &str) -> Result<Vec<Instance>, EtcdAdminError> {
        let keys = Keys::new(&self.prefix, service);
        let mut instances = Vec::new();
        let mut start = keys.start().to_vec();
        loop {
            let request = RangeRequest {
                key: Base64(start.clone()),
                range_end: Some(Base64(keys.end())),
                limit: Int64(PAGE),
                ..RangeRequest::default()
            };
            let answer: RangeAnswer = self.client.call("kv/range", &request).await?;
            let Some(last) = answer.kvs.last() else { return Ok(instances) };
            // The next possible key.
            start.clone_from(&last.key.0);
            start.push(0);
            instances.extend(answer.kvs.iter().filter_map(|kv| instance(kv).ok()));
            if !answer.more || instances.len() >= MAX_KEYS {
                return Ok(instances);
            }
        }
    }

    /// Sets the weight of an instance.
    ///
    /// # Errors
    ///
    /// etcd was not reached, or has no such instance.
    pub async fn set_weight(&self, service: &str, id: &str, weight: u16) -> Result<(), EtcdAdminError> {
        self.change(service, id, |instance| instance.weight = weight).await
    }

    /// Takes an instance out of the calls, by the weight zero; its weight is remembered in its metadata.
    ///
    /// # Errors
    ///
    /// etcd was not reached, or has no such instance.
    pub async fn drain(&self, service: &str, id: &str) -> Result<(), EtcdAdminError> {
        let drain = |instance: &mut Instance| {
            if instance.weight > 0 {
                instance.metadata.insert(DRAINED_WEIGHT.to_owned(), instance.weight.to_string());
                instance.weight = 0;
            }
        };
        self.change(service, id, drain).await
    }

    /// Gives an instance back the weight that it had before it was drained.
    ///
    /// # Errors
    ///
    /// etcd was not reached, or has no such instance.
    pub async fn undrain(&self, service: &str, id: &str) -> Result<(), EtcdAdminError> {
        let undrain = |instance: &mut Instance| {
            let remembered = instance.metadata.remove(DRAINED_WEIGHT).and_then(|weight| weight.parse().ok());
            if let Some(weight) = remembered {
                instance.weight = weight;
            }
        };
        self.change(service, id, undrain).await
    }

    /// Removes an instance. A server that is up registers again with its next renewal.
    ///
    /// # Errors
    ///
    /// [`EtcdAdminError::Call`].
    pub async fn remove(&self, service: &str, id: &str) -> Result<(), EtcdAdminError> {
        let key = Keys::new(&self.prefix, service).key(id);
        let request = DeleteRequest { key: key.as_str().into() };
        self.client.call::<Done>("kv/deleterange", &request).await?;
        Ok(())
    }

    /// Replaces the value of an instance's key, which keeps its lease.
    async fn change(
        &self,
        service: &str,
        id: &str,
        change: impl FnOnce(&mut Instance),
    ) -> Result<(), EtcdAdminError> {
        let invalid = |reason: BoxError| EtcdAdminError::Invalid { id: id.to_owned(), reason: reason.into() };
        let key = Keys::new(&self.prefix, service).key(id);
        let request = RangeRequest { key: key.as_str().into(), ..RangeRequest::default() };
        let answer: RangeAnswer = self.client.call("kv/range", &request).await?;
        let unknown = || EtcdAdminError::Unknown { service: service.to_owned(), id: id.to_owned() };
        let mut instance = instance(answer.kvs.first().ok_or_else(unknown)?).map_err(invalid)?;
        change(&mut instance);
        let instance = instance.check().map_err(|error| invalid(error.into()))?;
        let value = serde_json::to_vec(&instance).map_err(|error| invalid(error.into()))?;
        let request = PutRequest {
            key: key.as_str().into(),
            value: value.as_slice().into(),
            lease: Int64(0),
            ignore_lease: true,
        };
        self.client.call::<Done>("kv/put", &request).await?;
        Ok(())
    }
}

/// Returns the instance that a key holds.
fn instance(kv: &KeyValue) -> Result<Instance, BoxError> {
    let instance: Instance = serde_json::from_slice(&kv.value.0).map_err(|error| parse_error(&error))?;
    Ok(instance.check()?)
}
