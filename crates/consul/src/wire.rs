//! Consul's JSON: the registration, and the used fields of the answers. Lists that are empty may be `null`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A service with its check, as it is registered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Registration<'a> {
    #[serde(rename = "ID")]
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) tags: &'a [String],
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) weights: Weights,
    pub(crate) check: Check,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    #[serde(rename = "TTL")]
    pub(crate) ttl: String,
    pub(crate) status: &'static str,
    pub(crate) deregister_critical_service_after: &'static str,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Weights {
    #[serde(deserialize_with = "clamped")]
    pub(crate) passing: u16,
    #[serde(deserialize_with = "clamped")]
    pub(crate) warning: u16,
}

/// An instance of a service, with its node and the checks of both.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HealthEntry {
    pub(crate) node: Node,
    pub(crate) service: Service,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) checks: Vec<CheckStatus>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Node {
    #[serde(default)]
    pub(crate) address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Service {
    #[serde(default, rename = "ID")]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) address: String,
    /// Zero if it is none.
    #[serde(default, deserialize_with = "port_or_zero")]
    pub(crate) port: u16,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) weights: Option<Weights>,
    #[serde(default)]
    pub(crate) create_index: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CheckStatus {
    #[serde(default, rename = "CheckID")]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) status: String,
}

/// Reads a whole number as the nearest one that is a weight; any other value is zero. One instance that was registered with nonsense
/// costs the others nothing.
fn clamped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let largest = |weight: u64| u16::try_from(weight).unwrap_or(u16::MAX);
    Ok(value.as_u64().map(largest).or_else(|| value.as_f64().map(|weight| weight as u16)).unwrap_or(0))
}

/// Reads a port; any other value is zero, which cannot be dialed.
fn port_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0))
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
