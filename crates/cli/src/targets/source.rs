//! [`Source`]: the discovery of the servers of a target, whatever registry they are in.

use farcall::consul::ConsulDiscovery;
use farcall::discovery::{Discovery, EndpointList, Publisher, SrvDiscovery, publisher};
use farcall::etcd::EtcdDiscovery;
use farcall::kubernetes::KubernetesDiscovery;
use farcall::registry::HttpDiscovery;
use farcall::transport::Scheme;
use farcall::zookeeper::ZookeeperDiscovery;

use super::place::Place;
use super::registry::{Registry, usage};
use crate::failure::Failure;
use crate::output::escape::word;

/// The discovery of a service.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
pub(crate) enum Source {
    Srv(SrvDiscovery),
    Http(HttpDiscovery),
    Etcd(EtcdDiscovery),
    Consul(ConsulDiscovery),
    Zookeeper(ZookeeperDiscovery),
    Kubernetes(KubernetesDiscovery),
}

impl Source {
    /// Creates the discovery of a service at the place of a target that is not a list of addresses. SRV records have no services.
    pub(crate) fn new(registry: &Registry<'_>, service: &str) -> Result<Self, Failure> {
        Ok(match registry.place {
            Place::Srv { name } => Self::Srv(SrvDiscovery::new(name).map_err(usage)?),
            Place::Etcd { .. } => Self::Etcd(EtcdDiscovery::new(&registry.etcd()?, service).map_err(usage)?),
            Place::Consul { .. } => {
                let (scheme, service) = scheme_and_name(service);
                let discovery = ConsulDiscovery::new(&registry.consul()?, service).map_err(usage)?;
                Self::Consul(discovery.scheme(scheme).map_err(usage)?)
            }
            Place::Zookeeper { .. } => {
                let options = registry.zookeeper()?;
                Self::Zookeeper(ZookeeperDiscovery::new(&options, service).map_err(usage)?)
            }
            Place::Kubernetes { .. } => {
                let (scheme, name) = scheme_and_name(service);
                let (name, port) =
                    name.split_once(':').map_or((name, None), |(name, port)| (name, Some(port)));
                let discovery = KubernetesDiscovery::new(&registry.kubernetes()?, name).map_err(usage)?;
                let discovery = discovery.scheme(scheme).map_err(usage)?;
                Self::Kubernetes(match port {
                    Some(port) => discovery.port(port).map_err(usage)?,
                    None => discovery,
                })
            }
            Place::Registry { .. } | Place::Addresses(_) => Self::Http(registry.http_discovery(service)?),
        })
    }

    /// Runs until there is a list, or a failure.
    pub(crate) async fn first_list(self) -> Result<EndpointList, Failure> {
        let (publisher, mut seen) = publisher();
        let is_there = |seen: &EndpointList| seen.confirmed.is_some() || seen.failing.is_some();
        let list = tokio::select! {
            // A discovery runs until it is dropped.
            () = self.run(publisher) => EndpointList::default(),
            seen = seen.wait_for(is_there) => seen.map(|list| list.clone()).unwrap_or_default(),
        };
        match &list.failing {
            Some(failing) => Err(Failure::not_sent(word(&failing.reason))),
            None => Ok(list),
        }
    }
}

impl Discovery for Source {
    fn describe(&self) -> String {
        match self {
            Self::Srv(discovery) => discovery.describe(),
            Self::Http(discovery) => discovery.describe(),
            Self::Etcd(discovery) => discovery.describe(),
            Self::Consul(discovery) => discovery.describe(),
            Self::Zookeeper(discovery) => discovery.describe(),
            Self::Kubernetes(discovery) => discovery.describe(),
        }
    }

    async fn run(self, publisher: Publisher) {
        // Boxed, since some of their futures are large.
        match self {
            Self::Srv(discovery) => Box::pin(discovery.run(publisher)).await,
            Self::Http(discovery) => Box::pin(discovery.run(publisher)).await,
            Self::Etcd(discovery) => Box::pin(discovery.run(publisher)).await,
            Self::Consul(discovery) => Box::pin(discovery.run(publisher)).await,
            Self::Zookeeper(discovery) => Box::pin(discovery.run(publisher)).await,
            Self::Kubernetes(discovery) => Box::pin(discovery.run(publisher)).await,
        }
    }
}

/// Returns the scheme of servers in `tls@name`, and the name; TCP if it has none.
fn scheme_and_name(service: &str) -> (Scheme, &str) {
    let named = service.split_once('@').and_then(|(scheme, name)| {
        Some((Scheme::ALL.into_iter().find(|known| known.as_str() == scheme)?, name))
    });
    named.unwrap_or((Scheme::Tcp, service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_may_have_the_scheme_of_its_servers() {
        assert_eq!(scheme_and_name("tls@arith"), (Scheme::Tls, "arith"));
        assert_eq!(scheme_and_name("arith"), (Scheme::Tcp, "arith"));
        assert_eq!(
            scheme_and_name("x@arith"),
            (Scheme::Tcp, "x@arith"),
            "the name is refused where it is used"
        );
    }
}
