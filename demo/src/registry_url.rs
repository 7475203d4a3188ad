//! The kinds of registries, and the URL of one, as the command line names them. The processes are in
//! [`crate::registry`].

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::bail;
use clap::ValueEnum;
use farcall::client::ChannelBuilder;
use farcall::etcd::{EtcdDiscovery, EtcdOptions, EtcdRegistrar};
use farcall::registry::{HttpDiscovery, HttpRegistrar};
use farcall::server::ServerBuilder;

/// The time to live of an instance, short so that changes are visible during a job.
const TTL: &str = "3s";
/// The interval of heartbeats.
const HEARTBEAT: &str = "1s";

/// A kind of registry, as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RegistryName {
    /// farcall's own.
    Http,
    /// An etcd that is installed on this machine.
    Etcd,
}

/// The URL of a registry, which contains its kind: `http://host:7100/registry`, or
/// `etcd+http://host:2379`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RegistryUrl {
    Http(String),
    Etcd(String),
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
        }
    }
}

impl RegistryUrl {
    /// Configures a server to register there.
    pub(crate) fn register(&self, builder: ServerBuilder) -> anyhow::Result<ServerBuilder> {
        Ok(match self {
            Self::Http(url) => builder.register_with(HttpRegistrar::new(url)?),
            Self::Etcd(url) => builder.register_with(EtcdRegistrar::new(&EtcdOptions::new(url)?)?),
        })
    }

    /// Configures a channel to find its endpoints there.
    pub(crate) fn discover(&self, builder: ChannelBuilder, service: &str) -> anyhow::Result<ChannelBuilder> {
        Ok(match self {
            Self::Http(url) => builder.discover(HttpDiscovery::new(url, service)?),
            Self::Etcd(url) => builder.discover(EtcdDiscovery::new(&EtcdOptions::new(url)?, service)?),
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
        }
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url),
            Self::Etcd(url) => write!(f, "etcd+{url}"),
        }
    }
}

impl FromStr for RegistryUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let is_http = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        match text.strip_prefix("etcd+") {
            Some(url) if is_http(url) => Ok(Self::Etcd(url.to_owned())),
            None if is_http(text) => Ok(Self::Http(text.to_owned())),
            _ => bail!(
                "`{text}` is not the URL of a registry: it begins with http://, https:// or etcd+http://"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_contains_the_kind_of_registry() {
        for url in ["http://a:7100/registry", "https://a", "etcd+http://a:2379,http://b:2379"] {
            assert_eq!(url.parse::<RegistryUrl>().unwrap().to_string(), url);
        }
        let error = "a:7100".parse::<RegistryUrl>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`a:7100` is not the URL of a registry: it begins with http://, https:// or etcd+http://"
        );
    }
}
