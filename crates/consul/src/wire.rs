//! Consul's JSON: the registration, and the used fields of the answers. Lists that are empty may be `null`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

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
    pub(crate) passing: u16,
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
    #[serde(default)]
    pub(crate) port: u32,
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

fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
