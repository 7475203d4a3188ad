//! [`Listing`]: what can be read in the registries whose instances this command does not change: Consul, ZooKeeper, Kubernetes.

use farcall::consul::ConsulDiscovery;
use farcall::discovery::{AdvertisedState, Endpoint};
use farcall::kubernetes::KubernetesDiscovery;
use farcall::zookeeper::ZookeeperDiscovery;

use crate::failure::Failure;
use crate::output::escape::word;
use crate::targets::place::Place;
use crate::targets::registry::usage;
use crate::targets::settings::Settings;
use crate::value::Value;

/// The services and endpoints of a registry.
#[derive(Debug)]
pub(super) struct Listing(Settings);

impl Listing {
    /// Creates a listing; `None` if the registry of the target is another one.
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        let is_listed = matches!(
            settings.place,
            Place::Consul { .. } | Place::Zookeeper { .. } | Place::Kubernetes { .. }
        );
        is_listed.then(|| Self(settings.clone()))
    }

    /// Returns a row for each service.
    pub(super) async fn services(&self) -> Result<Vec<Value>, Failure> {
        let registry = self.0.registry();
        let names = match self.0.place {
            Place::Consul { .. } => {
                let discovery = ConsulDiscovery::new(&registry.consul()?, "").map_err(usage)?;
                discovery.services().await
            }
            Place::Zookeeper { .. } => {
                let discovery = ZookeeperDiscovery::new(&registry.zookeeper()?, "").map_err(usage)?;
                discovery.services().await
            }
            _ => {
                // The name of any service: all of its namespace are listed.
                let discovery = KubernetesDiscovery::new(&registry.kubernetes()?, "any").map_err(usage)?;
                discovery.services().await
            }
        };
        let names = names.map_err(|error| Failure::not_sent(word(&error.reason)))?;
        Ok(names.into_iter().map(|name| Value::object([("name", Value::text(name))])).collect())
    }

    /// Returns a row for each endpoint of a service.
    pub(super) async fn instances(&self, service: &str) -> Result<Vec<Value>, Failure> {
        let list = self.0.source(service)?.first_list().await?;
        Ok(list.endpoints.iter().map(|endpoint| row(endpoint)).collect())
    }

    /// Returns the failure of a change, with what to do instead.
    pub(super) fn refusal(&self) -> Failure {
        let (place, instead) = match self.0.place {
            Place::Consul { .. } => ("Consul", "`consul maint -enable -service=ID` drains an instance"),
            Place::Zookeeper { .. } => {
                ("ZooKeeper", "a node belongs to its server, which takes it away when it stops")
            }
            _ => ("Kubernetes", "a pod drains when it is deleted, or when its readiness probe fails"),
        };
        Failure::usage(format!("this command does not change what {place} has")).with_hint(instead.to_owned())
    }
}

/// Returns the row of an endpoint.
fn row(endpoint: &Endpoint) -> Value {
    let text = |text: &Option<String>| text.as_ref().map_or(Value::Null, Value::text);
    let state = match endpoint.state {
        AdvertisedState::Draining => "draining",
        _ if endpoint.weight == 0 => "draining",
        AdvertisedState::Up => "up",
        AdvertisedState::Stale => "stale",
    };
    Value::object([
        ("address", Value::text(endpoint.address.to_string())),
        ("state", Value::text(state)),
        ("weight", Value::from(u64::from(endpoint.weight))),
        ("zone", text(&endpoint.zone)),
        ("version", text(&endpoint.version)),
    ])
}
