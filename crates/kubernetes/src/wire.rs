//! The used fields of what an API server answers: lists, slices, events of a watch, and statuses.
//!
//! Lists that are empty may be `null`: they are those of Go.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct SliceList {
    /// `EndpointSliceList`; anything else is no answer to what was asked.
    pub(crate) kind: String,
    pub(crate) metadata: ListMeta,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) items: Vec<Slice>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListMeta {
    #[serde(default)]
    pub(crate) resource_version: String,
    /// Continues the list with the next page, if it is not empty.
    #[serde(default)]
    pub(crate) r#continue: String,
}

/// A part of the endpoints of one service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Slice {
    /// The bytes of JSON that it was read from, at least.
    #[serde(skip)]
    pub(crate) bytes: usize,
    pub(crate) metadata: SliceMeta,
    #[serde(default)]
    pub(crate) address_type: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) endpoints: Vec<SliceEndpoint>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) ports: Vec<SlicePort>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SliceMeta {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) resource_version: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) labels: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SliceEndpoint {
    /// The first one counts; further ones have no meaning that is defined.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) addresses: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) conditions: Conditions,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) hints: Hints,
    pub(crate) target_ref: Option<TargetRef>,
    pub(crate) node_name: Option<String>,
    pub(crate) zone: Option<String>,
}

/// The states of an endpoint; one that is left out is not known.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Conditions {
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
    pub(crate) terminating: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hints {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) for_zones: Vec<ForZone>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ForZone {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TargetRef {
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) uid: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SlicePort {
    /// Empty for the only port of a service that has no name.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) name: String,
    /// TCP if it is left out.
    pub(crate) protocol: Option<String>,
    /// Left out, or no port: it cannot be dialed.
    #[serde(default, deserialize_with = "port_or_none")]
    pub(crate) port: Option<u16>,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
pub(crate) struct WatchLine {
    pub(crate) r#type: String,
    pub(crate) object: Value,
}

/// An object of which only the version is of use.
#[derive(Debug, Deserialize)]
pub(crate) struct Bookmark {
    pub(crate) metadata: ListMeta,
}

/// The body of an answer that is no success, and the object of an event `ERROR`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) code: u16,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) message: String,
}

/// Reads a port; any other value is none, and costs the others of the list nothing.
fn port_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_u64().and_then(|port| u16::try_from(port).ok()))
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
