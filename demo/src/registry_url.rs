//! The kinds of registries, and the URL of one, as the command line names them. The processes are in
//! [`crate::registry`].

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use farcall::client::ChannelBuilder;
use farcall::discovery::SrvDiscovery;
use farcall::etcd::{EtcdDiscovery, EtcdOptions, EtcdRegistrar};
use farcall::registry::{HttpDiscovery, HttpRegistrar};
use farcall::server::ServerBuilder;
use farcall::zookeeper::{ZookeeperDiscovery, ZookeeperOptions, ZookeeperRegistrar};

/// The time to live of an instance, short so that changes are visible during a job.
const TTL: &str = "3s";
/// The interval of heartbeats.
const HEARTBEAT: &str = "1s";

/// The zone of SRV records.
pub(crate) const ZONE: &str = "farcall.test";

/// Returns the name of a service's SRV records.
pub(crate) fn srv_name(service: &str) -> String {
    format!("_{}._tcp.{ZONE}", service.to_ascii_lowercase())
}

/// A kind of registry, as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RegistryName {
    /// farcall's own.
    Http,
    /// An etcd that is installed on this machine.
    Etcd,
    /// A ZooKeeper that is installed on this machine.
    Zookeeper,
    /// SRV records of a BIND that is installed on this machine.
    Srv,
}

/// The URL of a registry, which contains its kind: `http://host:7100/registry`, `etcd+http://host:2379`,
/// `zookeeper://host:2181`, or `srv+http://host:7100/registry?dns=host:53`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RegistryUrl {
    Http(String),
    Etcd(String),
    /// The servers of ZooKeeper.
    Zookeeper(String),
    /// The registry of servers, and the name server that clients ask.
    Srv {
        registry: String,
        name_server: SocketAddr,
    },
}

impl RegistryName {
    /// Returns the name and the arguments of its process; `directory` is for its files.
    pub(crate) fn process(self, directory: &Path) -> (&'static str, Vec<String>) {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match self {
            Self::Http => (
                "registry",
                words(&["registry", "--listen", "127.0.0.1:0", "--ttl", TTL, "--heartbeat", HEARTBEAT]),
            ),
            Self::Etcd => ("etcd", words(&["etcd", "--data", &directory.join("etcd").to_string_lossy()])),
            Self::Zookeeper => {
                let data = directory.join("zookeeper");
                ("zookeeper", words(&["zookeeper", "--data", &data.to_string_lossy()]))
            }
            Self::Srv => {
                let data = directory.join("srv");
                let data = data.to_string_lossy();
                ("srv", words(&["srv", "--data", &data, "--ttl", TTL, "--heartbeat", HEARTBEAT]))
            }
        }
    }
}

impl RegistryUrl {
    /// Configures a server to register there.
    pub(crate) fn register(&self, builder: ServerBuilder) -> anyhow::Result<ServerBuilder> {
        Ok(match self {
            Self::Http(url) => builder.register_with(HttpRegistrar::new(url)?),
            Self::Etcd(url) => builder.register_with(EtcdRegistrar::new(&EtcdOptions::new(url)?)?),
            Self::Zookeeper(servers) => {
                builder.register_with(ZookeeperRegistrar::new(&ZookeeperOptions::new(servers)?)?)
            }
            Self::Srv { registry, .. } => builder.register_with(HttpRegistrar::new(registry)?),
        })
    }

    /// Configures a channel to find its endpoints there.
    pub(crate) fn discover(&self, builder: ChannelBuilder, service: &str) -> anyhow::Result<ChannelBuilder> {
        Ok(match self {
            Self::Http(url) => builder.discover(HttpDiscovery::new(url, service)?),
            Self::Etcd(url) => builder.discover(EtcdDiscovery::new(&EtcdOptions::new(url)?, service)?),
            Self::Zookeeper(servers) => {
                builder.discover(ZookeeperDiscovery::new(&ZookeeperOptions::new(servers)?, service)?)
            }
            Self::Srv { name_server, .. } => {
                builder.discover(SrvDiscovery::new(&srv_name(service))?.name_servers([*name_server]))
            }
        })
    }

    /// Returns commands and pages to try.
    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            Self::Http(url) => vec![
                format!("open    {url}/"),
                format!("list    curl '{url}/registry?service=Text'"),
                format!("watch   curl -N '{url}/v1/watch?service=Text'"),
            ],
            Self::Etcd(url) => {
                vec![format!("list    etcdctl --endpoints {url} get --prefix /farcall/v1/")]
            }
            Self::Zookeeper(servers) => {
                vec![format!("list    /usr/share/zookeeper/bin/zkCli.sh -server {servers} ls -R /farcall/v1")]
            }
            Self::Srv { registry, name_server } => vec![
                format!("open    {registry}/"),
                format!(
                    "list    dig @{} -p {} {} SRV",
                    name_server.ip(),
                    name_server.port(),
                    srv_name("Text")
                ),
            ],
        }
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url),
            Self::Etcd(url) => write!(f, "etcd+{url}"),
            Self::Zookeeper(servers) => write!(f, "zookeeper://{servers}"),
            Self::Srv { registry, name_server } => write!(f, "srv+{registry}?dns={name_server}"),
        }
    }
}

impl FromStr for RegistryUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let is_http = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        if let Some(servers) = text.strip_prefix("zookeeper://") {
            return Ok(Self::Zookeeper(servers.to_owned()));
        }
        if let Some((registry, name_server)) =
            text.strip_prefix("srv+").and_then(|rest| rest.split_once("?dns="))
            && is_http(registry)
        {
            let name_server = name_server.parse().context("the name server is no address with a port")?;
            return Ok(Self::Srv { registry: registry.to_owned(), name_server });
        }
        match text.strip_prefix("etcd+") {
            Some(url) if is_http(url) => Ok(Self::Etcd(url.to_owned())),
            None if is_http(text) => Ok(Self::Http(text.to_owned())),
            _ => bail!(
                "`{text}` is not the URL of a registry: it begins with http://, https://, etcd+http://, \
                 zookeeper:// or srv+http://"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_contains_the_kind_of_registry() {
        for url in [
            "http://a:7100/registry",
            "https://a",
            "etcd+http://a:2379,http://b:2379",
            "zookeeper://a:2181,b:2181",
            "srv+http://a:7100?dns=127.0.0.1:53",
        ] {
            assert_eq!(url.parse::<RegistryUrl>().unwrap().to_string(), url);
        }
        let error = "a:7100".parse::<RegistryUrl>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`a:7100` is not the URL of a registry: it begins with http://, https://, etcd+http://, zookeeper:// \
             or srv+http://"
        );
    }
}
