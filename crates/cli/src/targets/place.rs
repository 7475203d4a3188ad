//! [`Place`]: where servers are, as a target names it.

use farcall::Address;
use farcall::discovery::{SrvDiscovery, SrvDiscoveryError};

/// The place of the servers of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At these addresses; there is at least one.
    Addresses(Vec<Address>),
    /// In the SRV records of a name.
    Srv {
        /// The name with the scheme of the servers, as `SrvDiscovery` takes it.
        name: String,
    },
    /// In a registry over HTTP.
    Registry {
        /// The registry's URL.
        url: String,
    },
    /// In etcd.
    Etcd {
        /// The URLs of its members, separated by commas.
        endpoints: String,
    },
    /// At an agent of Consul.
    Consul {
        /// The agent's URL.
        agent: String,
    },
    /// In ZooKeeper.
    Zookeeper {
        /// The servers, separated by commas.
        servers: String,
        /// The beginning of all nodes, if the target has one.
        prefix: Option<String>,
    },
    /// In the EndpointSlices of Kubernetes.
    Kubernetes {
        /// The URL of the API server; `None` for that of the pod which the command runs in.
        api: Option<String>,
        /// The namespace, if the target has one.
        namespace: Option<String>,
    },
}

/// A target as it was parsed: a place, or the name of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParsedTarget {
    /// A place, and the service that is looked for in it if the target names one.
    Place(Place, Option<String>),
    /// `@name`, and the service behind it if the target names one: `@name#Service`.
    Context(String, Option<String>),
}

/// The error in a target.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    /// Nothing, or `@` alone.
    #[error(
        "the target is empty; write host:port, tls@host:port, unix@/path, srv@name, a registry's URL, or @context"
    )]
    Empty,
    /// A URL of something else than a registry.
    #[error(
        "`{scheme}://` is no registry: write http://host:port/registry, etcd://, consul://, zookeeper:// or \
         kubernetes://; servers are host:port"
    )]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// No name of SRV records.
    #[error(transparent)]
    Srv(#[from] SrvDiscoveryError),
    /// No address.
    #[error(transparent)]
    Address(#[from] farcall::transport::AddressError),
}

/// Parses a target: addresses separated by commas, a name of SRV records, the URL of a registry or `@context`, both with `#Service`
/// behind it.
pub(crate) fn parse(text: &str) -> Result<ParsedTarget, TargetError> {
    if let Some(context) = text.strip_prefix('@') {
        let (name, service) = context.split_once('#').unwrap_or((context, ""));
        return if name.is_empty() {
            Err(TargetError::Empty)
        } else {
            Ok(ParsedTarget::Context(
                name.to_owned(),
                Some(service.to_owned()).filter(|service| !service.is_empty()),
            ))
        };
    }
    if text.is_empty() {
        return Err(TargetError::Empty);
    }
    if let Some(name) = srv_name(text) {
        SrvDiscovery::new(&name)?;
        return Ok(ParsedTarget::Place(Place::Srv { name }, None));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let addresses = text.split(',').map(Address::parse).collect::<Result<Vec<_>, _>>()?;
        return Ok(ParsedTarget::Place(Place::Addresses(addresses), None));
    };
    let (rest, service) = match rest.split_once('#') {
        Some((rest, service)) => (rest, Some(service.to_owned())),
        None => (rest, None),
    };
    let place = match scheme {
        "http" | "https" => Place::Registry { url: format!("{scheme}://{rest}") },
        "etcd" | "etcd+http" => Place::Etcd { endpoints: members("http", rest) },
        "etcd+https" => Place::Etcd { endpoints: members("https", rest) },
        "consul" | "consul+http" => Place::Consul { agent: format!("http://{rest}") },
        "consul+https" => Place::Consul { agent: format!("https://{rest}") },
        "zookeeper" => zookeeper(rest),
        "kubernetes" | "kubernetes+https" => kubernetes("https", rest),
        "kubernetes+http" => kubernetes("http", rest),
        // The address parser knows what was meant by `tcp://` and its like.
        _ if farcall::transport::Scheme::ALL.iter().any(|known| known.as_str() == scheme) => {
            Address::parse(text)?;
            return Err(TargetError::Scheme { scheme: scheme.to_owned() });
        }
        _ => return Err(TargetError::Scheme { scheme: scheme.to_owned() }),
    };
    Ok(ParsedTarget::Place(place, service))
}

/// Returns the name of `srv@name`, and that of `srv+tls@name` with the scheme of the servers.
fn srv_name(text: &str) -> Option<String> {
    let (scheme, name) = text.split_once('@')?;
    match scheme.strip_prefix("srv")? {
        "" => Some(format!("srv@{name}")),
        scheme => Some(format!("{}@{name}", scheme.strip_prefix('+')?)),
    }
}

/// Returns the URLs of etcd's members, of which the target has the first one's scheme only.
fn members(scheme: &str, rest: &str) -> String {
    let rest = rest.trim_end_matches('/');
    let urls = rest.split(',').map(|member| match member.contains("://") {
        true => member.to_owned(),
        false => format!("{scheme}://{member}"),
    });
    urls.collect::<Vec<_>>().join(",")
}

/// Returns the place of `host:2181,host:2181/prefix`.
fn zookeeper(rest: &str) -> Place {
    let (servers, prefix) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let prefix = Some(prefix.trim_end_matches('/')).filter(|prefix| !prefix.is_empty());
    Place::Zookeeper { servers: servers.to_owned(), prefix: prefix.map(str::to_owned) }
}

/// Returns the place of `host:6443/namespace`; a path before the namespace belongs to the API server, and without a host it is the pod's.
fn kubernetes(scheme: &str, rest: &str) -> Place {
    let (api, namespace) = rest.rsplit_once('/').unwrap_or((rest, ""));
    let filled = |text: &str| !text.is_empty();
    Place::Kubernetes {
        api: Some(api).filter(|api| filled(api)).map(|api| format!("{scheme}://{api}")),
        namespace: Some(namespace).filter(|namespace| filled(namespace)).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> (Place, Option<String>) {
        match parse(text).unwrap() {
            ParsedTarget::Place(place, service) => (place, service),
            context @ ParsedTarget::Context(..) => panic!("{context:?}"),
        }
    }

    #[test]
    fn addresses_may_be_several() {
        let addresses = |texts: &[&str]| {
            Place::Addresses(texts.iter().map(|text| Address::parse(text).unwrap()).collect())
        };
        for (text, expected) in [
            ("h:1", addresses(&["tcp@h:1"])),
            ("tls@h:1,unix@/run/s", addresses(&["tls@h:1", "unix@/run/s"])),
        ] {
            assert_eq!(place(text), (expected, None));
        }
    }

    #[test]
    fn registries_are_urls_and_may_name_a_service() {
        let url = |url: &str| Place::Registry { url: url.to_owned() };
        let etcd = |endpoints: &str| Place::Etcd { endpoints: endpoints.to_owned() };
        let service = Some("Arith".to_owned());
        assert_eq!(place("http://r:7100/registry"), (url("http://r:7100/registry"), None));
        assert_eq!(place("https://r/registry#Arith"), (url("https://r/registry"), service.clone()));
        assert_eq!(place("etcd://a:2379,b:2379#Arith"), (etcd("http://a:2379,http://b:2379"), service));
        assert_eq!(place("etcd+https://a:2379"), (etcd("https://a:2379"), None));
    }

    #[test]
    fn other_registries_have_schemes() {
        let consul = |agent: &str| Place::Consul { agent: agent.to_owned() };
        assert_eq!(place("consul://a:8500"), (consul("http://a:8500"), None));
        let service = Some("tls@Arith".to_owned());
        assert_eq!(place("consul+https://a/path#tls@Arith"), (consul("https://a/path"), service));
        let zookeeper = |servers: &str, prefix: Option<&str>| Place::Zookeeper {
            servers: servers.to_owned(),
            prefix: prefix.map(str::to_owned),
        };
        assert_eq!(place("zookeeper://a:2181,b:2181"), (zookeeper("a:2181,b:2181", None), None));
        assert_eq!(place("zookeeper://a/blue/v1"), (zookeeper("a", Some("/blue/v1")), None));
        assert_eq!(place("zookeeper://a/"), (zookeeper("a", None), None));
        let kubernetes = |api: Option<&str>, namespace: Option<&str>| Place::Kubernetes {
            api: api.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
        };
        let service = Some("arith:rpc".to_owned());
        for (text, expected) in [
            (
                "kubernetes://a:6443/shop#arith:rpc",
                (kubernetes(Some("https://a:6443"), Some("shop")), service),
            ),
            ("kubernetes://a:6443", (kubernetes(Some("https://a:6443"), None), None)),
            ("kubernetes+http://a:1/k8s/c/shop", (kubernetes(Some("http://a:1/k8s/c"), Some("shop")), None)),
            ("kubernetes:///shop", (kubernetes(None, Some("shop")), None)),
            ("kubernetes://", (kubernetes(None, None), None)),
        ] {
            assert_eq!(place(text), expected, "{text}");
        }
    }

    #[test]
    fn names_of_srv_records_may_have_a_scheme() {
        let srv = |name: &str| (Place::Srv { name: name.to_owned() }, None);
        assert_eq!(place("srv@_rpc._tcp.arith.internal"), srv("srv@_rpc._tcp.arith.internal"));
        assert_eq!(place("srv+tls@_rpc._tcp.arith"), srv("tls@_rpc._tcp.arith"));
        for text in ["srv@", "srv@a:1", "srv+unix@a", "srv+x@a"] {
            assert!(matches!(parse(text), Err(TargetError::Srv(_))), "{text}");
        }
    }

    #[test]
    fn wrong_targets_say_what_to_write() {
        assert_eq!(parse("@shop").unwrap(), ParsedTarget::Context("shop".to_owned(), None));
        let with_service = ParsedTarget::Context("shop".to_owned(), Some("Arith".to_owned()));
        assert_eq!(parse("@shop#Arith").unwrap(), with_service);
        for (text, part) in [
            ("", "host:port"),
            ("@", "host:port"),
            ("redis://h:1", "is no registry"),
            ("k8s://h:1", "kubernetes://"),
            ("tcp://h:1", "tcp@h:1"),
            ("h", "port"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
