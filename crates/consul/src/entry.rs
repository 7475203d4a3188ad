//! Instances as Consul has them: made of an [`Instance`], and read as an [`Endpoint`]. Requests nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use farcall_discovery::{AdvertisedState, Endpoint, Instance, RegistrarError, RegistrarErrorKind};
use farcall_protocol::EscapedText;
use farcall_transport::{Address, Scheme};

use crate::wire::{Check, CheckStatus, HealthEntry, Registration, Weights};

/// The name in Consul of the service without a name, the plain list of servers.
const PLAIN_LIST: &str = "~";
/// The beginning of the metadata that belongs to this crate.
const OWN: &str = "farcall-";
const ADDRESS: &str = "farcall-addr";
const ID: &str = "farcall-id";
const WEIGHT: &str = "farcall-weight";
const ZONE: &str = "farcall-zone";
const VERSION: &str = "farcall-version";
/// The bounds of Consul's metadata.
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 512;
/// The shortest time that Consul has: it looks every 30 s.
const REMOVE_AFTER: &str = "1m";
/// The worst that the checks of an instance say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Passing,
    Warning,
    Maintenance,
    Critical,
}

/// Returns the name of a service in Consul.
pub(crate) fn service_name(service: &str) -> &str {
    if service.is_empty() { PLAIN_LIST } else { service }
}

/// Returns the name of a service of Consul.
pub(crate) fn own_name(service: &str) -> &str {
    if service == PLAIN_LIST { "" } else { service }
}

/// Describes an instance for Consul.
pub(crate) fn registration<'a>(
    instance: &'a Instance,
    id: &'a str,
    tags: &'a [String],
    ttl: Duration,
) -> Result<Registration<'a>, RegistrarError> {
    let mut meta = instance.metadata.clone();
    for (key, value) in &meta {
        check_pair(key, value)?;
    }
    let own = [
        (ADDRESS, Some(instance.addr.to_string())),
        (ID, (instance.id != instance.addr.to_string()).then(|| instance.id.clone())),
        (WEIGHT, Some(instance.weight.to_string())),
        (ZONE, instance.zone.clone()),
        (VERSION, instance.version.clone()),
    ];
    meta.extend(own.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    let host = instance.addr.host().map(|host| host.to_string()).unwrap_or_default();
    Ok(Registration {
        id,
        name: service_name(&instance.service),
        tags,
        address: host.trim_matches(['[', ']']).to_owned(),
        port: instance.addr.port().unwrap_or(0),
        meta,
        weights: Weights { passing: instance.weight.max(1), warning: 1 },
        check: Check {
            name: "farcall",
            ttl: format!("{}ms", ttl.as_millis()),
            // The server is up; otherwise it would wait for its first renewal.
            status: "passing",
            deregister_critical_service_after: REMOVE_AFTER,
        },
    })
}

fn check_pair(key: &str, value: &str) -> Result<(), RegistrarError> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let reason = if key.starts_with(OWN) {
        "keys that begin with `farcall-` are those of farcall"
    } else if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(known) {
        "Consul takes keys of 1 to 128 letters, digits, `-` and `_`"
    } else if value.chars().count() > MAX_VALUE {
        "Consul takes values of 512 characters at most"
    } else {
        return Ok(());
    };
    let text = format!("metadata `{}`: {reason}", EscapedText(key));
    Err(RegistrarError::new(RegistrarErrorKind::InvalidInstance, text))
}

/// Returns the endpoint of an instance; `None` if it should get no calls, or an error if it cannot be dialed.
pub(crate) fn endpoint(entry: &HealthEntry, scheme: Scheme) -> Result<Option<Endpoint>, String> {
    let health = health(&entry.checks);
    if health == Health::Critical {
        return Ok(None);
    }
    let service = &entry.service;
    let address = match service.meta.get(ADDRESS) {
        Some(address) => Address::parse(address).map_err(|error| error.to_string())?,
        None => {
            let host = if service.address.is_empty() { &entry.node.address } else { &service.address };
            let bracketed = host.contains(':');
            let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
            let text = format!("{scheme}@{open}{host}{close}:{}", service.port);
            Address::parse(&text).map_err(|error| error.to_string())?
        }
    };
    if address.port() == Some(0) || address.is_unspecified() {
        return Err(format!("`{address}` cannot be dialed"));
    }
    let weights = service.weights.unwrap_or(Weights { passing: 1, warning: 1 });
    let own_weight = service.meta.get(WEIGHT).and_then(|weight| weight.parse().ok());
    let mut endpoint = Endpoint::new(address).with_weight(match health {
        Health::Warning => weights.warning,
        _ => own_weight.unwrap_or(weights.passing),
    });
    if health == Health::Maintenance {
        endpoint.state = AdvertisedState::Draining;
    }
    endpoint.zone = service.meta.get(ZONE).cloned();
    endpoint.version = service.meta.get(VERSION).cloned();
    let others = service.meta.iter().filter(|(key, _)| !key.starts_with(OWN));
    endpoint.metadata = others.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>();
    Ok(Some(endpoint))
}

fn health(checks: &[CheckStatus]) -> Health {
    let each = checks.iter().map(|check| match &*check.status {
        "passing" => Health::Passing,
        "warning" => Health::Warning,
        // What an operator has said counts more than that it makes other checks fail.
        _ if check.id == "_node_maintenance" || check.id.starts_with("_service_maintenance") => {
            Health::Maintenance
        }
        _ => Health::Critical,
    });
    each.max().unwrap_or(Health::Passing)
}

/// For the log.
impl fmt::Display for HealthEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapedText(&self.service.id).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(entry: Value) -> Result<Option<Endpoint>, String> {
        endpoint(&serde_json::from_value(entry).unwrap(), Scheme::Tcp)
    }

    #[expect(clippy::needless_pass_by_value, reason = "for `json!`")]
    fn web(checks: Value) -> Value {
        json!({
            "Node": {"Node": "n1", "Address": "10.0.0.7"},
            "Service": {"ID": "web", "Address": "", "Port": 80, "Weights": {"Passing": 10, "Warning": 2}, "Meta": null},
            "Checks": checks,
        })
    }

    #[test]
    fn checks_decide_about_calls_and_weights() {
        let (pass, warn) = (json!({"Status": "passing"}), json!({"Status": "warning"}));
        let critical = json!({"Status": "critical", "CheckID": "service:web"});
        let maintained = json!({"Status": "critical", "CheckID": "_service_maintenance:web"});
        let told =
            |checks: Value| read(web(checks)).unwrap().map(|endpoint| (endpoint.weight, endpoint.state));
        let (up, draining) = (AdvertisedState::Up, AdvertisedState::Draining);
        assert_eq!(told(json!(null)), Some((10, up)));
        assert_eq!(told(json!([pass])), Some((10, up)));
        assert_eq!(told(json!([pass, warn])), Some((2, up)));
        assert_eq!(told(json!([warn, maintained])), Some((10, draining)));
        assert_eq!(told(json!([maintained, critical])), None);
    }

    #[test]
    fn services_of_others_have_the_address_of_the_service_or_the_node() {
        let mut entry = web(json!([]));
        let address = |entry: &Value| read(entry.clone()).map(|found| found.unwrap().address.to_string());
        assert_eq!(address(&entry).unwrap(), "tcp@10.0.0.7:80");
        entry["Service"]["Address"] = "fd00::1".into();
        assert_eq!(address(&entry).unwrap(), "tcp@[fd00::1]:80");
        entry["Service"]["Address"] = "db.internal".into();
        assert_eq!(address(&entry).unwrap(), "tcp@db.internal:80");
        for (field, value) in [("Port", json!(0)), ("Port", json!(70_000)), ("Address", json!("a b"))] {
            let mut wrong = entry.clone();
            wrong["Service"][field] = value;
            assert!(address(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_that_are_no_ports_and_no_weights_cost_the_others_nothing() {
        for (weight, expected) in [
            (json!(0), 0),
            (json!(-1), 0),
            (json!(65_536), u16::MAX),
            (json!(u64::MAX), u16::MAX),
            (json!(1.5), 1),
            (json!(1e300), u16::MAX),
            (json!(-1e300), 0),
            (json!(null), 0),
            (json!("7"), 0),
            (json!({}), 0),
        ] {
            let mut entry = web(json!([]));
            entry["Service"]["Weights"]["Passing"] = weight.clone();
            assert_eq!(read(entry).unwrap().unwrap().weight, expected, "{weight}");
        }
        for port in
            [json!(0), json!(-1), json!(65_536), json!(u64::MAX), json!(80.5), json!(null), json!("80")]
        {
            let mut entry = web(json!([]));
            entry["Service"]["Port"] = port;
            assert!(read(entry).unwrap_err().contains("cannot be dialed"));
        }
    }

    #[test]
    fn metadata_that_consul_does_not_take_is_refused() {
        let instance = |key: &str, value: &str| {
            let mut instance = Instance::new("Arith", "10.0.0.1:1".parse().unwrap());
            instance.metadata.insert(key.to_owned(), value.to_owned());
            registration(&instance, "id", &[], Duration::from_secs(1)).map(drop)
        };
        instance("rack-1_A", &"é".repeat(512)).unwrap();
        for (key, value) in [("a.b", ""), ("", ""), ("a", &*"x".repeat(513)), ("farcall-x", "")] {
            let error = instance(key, value).unwrap_err();
            assert_eq!(error.kind(), RegistrarErrorKind::InvalidInstance, "{error}");
        }
    }
}
