//! [`Admin`]: the same operations in every registry, with rows to show. Only farcall's and etcd's can be changed.

use farcall::discovery::Instance;
use farcall::etcd::{EtcdAdmin, EtcdAdminError};
use farcall::registry::{AdminError, RegistryAdmin};
use farcall_registry::wire::Patch;

use super::listing::Listing;
use crate::failure::Failure;
use crate::output::escape::word;
use crate::targets::place::Place;
use crate::targets::registry::usage;
use crate::targets::settings::Settings;
use crate::value::Value;

/// The administration of a registry, or only its list.
#[derive(Debug)]
pub(super) enum Admin {
    Http(Box<RegistryAdmin>),
    Etcd(EtcdAdmin),
    Other(Box<Listing>),
}

impl Admin {
    pub(super) fn new(settings: &Settings) -> Result<Self, Failure> {
        if let Some(listing) = Listing::new(settings) {
            return Ok(Self::Other(Box::new(listing)));
        }
        let registry = settings.registry();
        Ok(match &settings.place {
            Place::Etcd { .. } => Self::Etcd(EtcdAdmin::new(&registry.etcd()?).map_err(usage)?),
            _ => Self::Http(Box::new(registry.http_admin()?)),
        })
    }

    /// Returns a row for each service.
    pub(super) async fn services(&self) -> Result<Vec<Value>, Failure> {
        Ok(match self {
            Self::Http(admin) => admin.services().await.map_err(of_http)?.iter().map(Value::of).collect(),
            Self::Etcd(admin) => {
                let mut rows = Vec::new();
                for service in admin.services().await.map_err(of_etcd)? {
                    let instances = admin.instances(&service).await.map_err(of_etcd)?;
                    let draining = instances.iter().filter(|instance| instance.weight == 0).count() as u64;
                    let count = instances.len() as u64;
                    rows.push(Value::object([
                        ("name", Value::text(service)),
                        ("instances", Value::from(count)),
                        ("up", Value::from(count - draining)),
                        ("draining", Value::from(draining)),
                    ]));
                }
                rows
            }
            Self::Other(listing) => listing.services().await?,
        })
    }

    /// Returns a row for each instance of a service.
    pub(super) async fn instances(&self, service: &str) -> Result<Vec<Value>, Failure> {
        Ok(match self {
            Self::Http(admin) => {
                let found = admin.instances(service).await.map_err(of_http)?;
                let row = |record: farcall_registry::wire::InstanceRecord| {
                    row(&record.instance, Value::of(&record.state))
                };
                found.into_iter().map(row).collect()
            }
            Self::Etcd(admin) => {
                let found = admin.instances(service).await.map_err(of_etcd)?;
                let state = |instance: &Instance| if instance.weight == 0 { "draining" } else { "up" };
                found.iter().map(|instance| row(instance, Value::text(state(instance)))).collect()
            }
            Self::Other(listing) => listing.instances(service).await?,
        })
    }

    pub(super) async fn drain(&self, service: &str, id: &str) -> Result<(), Failure> {
        match self {
            Self::Http(admin) => patch(admin, service, id, Patch::default().drain(true)).await,
            Self::Etcd(admin) => admin.drain(service, id).await.map_err(of_etcd),
            Self::Other(listing) => Err(listing.refusal()),
        }
    }

    pub(super) async fn undrain(&self, service: &str, id: &str) -> Result<(), Failure> {
        match self {
            Self::Http(admin) => patch(admin, service, id, Patch::default().clear_drain()).await,
            Self::Etcd(admin) => admin.undrain(service, id).await.map_err(of_etcd),
            Self::Other(listing) => Err(listing.refusal()),
        }
    }

    pub(super) async fn set_weight(&self, service: &str, id: &str, weight: u16) -> Result<(), Failure> {
        match self {
            Self::Http(admin) => patch(admin, service, id, Patch::default().weight(weight)).await,
            Self::Etcd(admin) => admin.set_weight(service, id, weight).await.map_err(of_etcd),
            Self::Other(listing) => Err(listing.refusal()),
        }
    }

    pub(super) async fn remove(&self, service: &str, id: &str) -> Result<(), Failure> {
        match self {
            Self::Http(admin) => admin.remove(service, id).await.map_err(of_http),
            Self::Etcd(admin) => admin.remove(service, id).await.map_err(of_etcd),
            Self::Other(listing) => Err(listing.refusal()),
        }
    }
}

async fn patch(admin: &RegistryAdmin, service: &str, id: &str, patch: Patch) -> Result<(), Failure> {
    admin.patch(service, id, patch).await.map(drop).map_err(of_http)
}

/// Returns the row of an instance.
fn row(instance: &Instance, state: Value) -> Value {
    let text = |text: &Option<String>| text.as_ref().map_or(Value::Null, Value::text);
    Value::object([
        ("id", Value::text(&instance.id)),
        ("address", Value::text(instance.addr.to_string())),
        ("state", state),
        ("weight", Value::from(u64::from(instance.weight))),
        ("zone", text(&instance.zone)),
        ("version", text(&instance.version)),
    ])
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn of_http(error: AdminError) -> Failure {
    let text = word(&error.to_string());
    match error.status() {
        None if error.is_unreachable() => Failure::not_sent(text),
        Some(401 | 403) => {
            Failure::local(text).with_hint("give its token with --registry-token-file".to_owned())
        }
        _ => Failure::local(text),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn of_etcd(error: EtcdAdminError) -> Failure {
    let text = word(&error.to_string());
    match error {
        EtcdAdminError::Call(_) => Failure::not_sent(text),
        _ => Failure::local(text),
    }
}
