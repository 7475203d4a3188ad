//! Decodes responses of a registry: lists, and the events of a watch.
//!
//! All or nothing: one malformed instance makes the whole message malformed, with an error that names it. No I/O, no
//! clock and no state.

use std::collections::BTreeMap;

use farcall_discovery::{AdvertisedState, Endpoint, Instance};
use farcall_protocol::text::parse_error;
use farcall_transport::Address;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::response::FullResponse;
use crate::excerpt::excerpt;
use crate::wire::{EPOCH, Envelope, Instances, Put, SERVER_COUNT, WARMING};

/// The maximum size of a list, in bytes: some 60,000 instances.
pub(super) const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;
/// The maximum number of instances of a service, as many as a registry has of all services.
pub(super) const MAX_INSTANCES: usize = 100_000;
/// The maximum length of an epoch, in bytes: it is sent back in a URL.
const MAX_EPOCH: usize = 128;

/// The bytes of a list in which one of its fields begins.
const MAX_LIST_BEGINNING: usize = 1024;

/// A list of instances, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct InstanceList {
    /// The registry's epoch. The simple interface may omit it.
    pub(super) epoch: Option<String>,
    /// The revision in that epoch; the simple interface has none.
    pub(super) rev: Option<u64>,
    /// `true` if instances may be missing.
    pub(super) warming: bool,
    pub(super) endpoints: BTreeMap<String, Endpoint>,
}

/// A position in a registry's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: String,
    pub(super) rev: u64,
}

/// A change that a watch reports.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Put { id: String, endpoint: Endpoint },
    Delete { id: String },
}

/// The fields of an instance that a client uses.
#[derive(Debug, Deserialize)]
struct ListedInstance {
    #[serde(flatten)]
    instance: Instance,
    #[serde(default)]
    state: AdvertisedState,
}

impl ListedInstance {
    fn check(self, service: &str) -> Result<(String, Endpoint), String> {
        let Instance { id, service: other, .. } = &self.instance;
        let named = format!("instance `{}`", excerpt(id));
        if other != service {
            return Err(format!("{named} is of another service, `{}`", excerpt(other)));
        }
        let instance = self.instance.check().map_err(|error| format!("{named}: {error}"))?;
        let endpoint = instance.endpoint(self.state);
        Ok((instance.id, endpoint))
    }
}

/// Decodes a list of the full interface, or the snapshot of a watch.
pub(super) fn full_list(body: &[u8], service: &str) -> Result<InstanceList, String> {
    let envelope: Envelope<Instances<ListedInstance>> =
        serde_json::from_slice(body).map_err(|error| diagnose_list(body, &error))?;
    check_count(envelope.body.instances.len())?;
    let Position { epoch, rev } = position(envelope.epoch, envelope.rev)?;
    let endpoints =
        envelope.body.instances.into_iter().map(|listed| listed.check(service)).collect::<Result<_, _>>()?;
    Ok(InstanceList { epoch: Some(epoch), rev: Some(rev), warming: envelope.warming, endpoints })
}

/// Returns `true` if a body begins like a list of the full interface, whether the rest is well-formed or not.
pub(super) fn is_full_list(body: &[u8]) -> bool {
    let body = body.trim_ascii_start();
    let beginning = &body[..body.len().min(MAX_LIST_BEGINNING)];
    let has = |name: &[u8]| beginning.windows(name.len()).any(|window| window == name);
    beginning.starts_with(b"{") && (has(b"\"epoch\"") || has(b"\"instances\""))
}

/// Decodes a list of the simple interface: an array of addresses.
pub(super) fn simple_list(response: &FullResponse) -> Result<InstanceList, String> {
    let body = &response.body;
    let texts: Vec<String> = serde_json::from_slice(body).map_err(|error| diagnose(body, &error))?;
    check_count(texts.len())?;
    // The header detects a truncated list that happens to be well-formed.
    if let Some(count) = response.headers.get(SERVER_COUNT)
        && count.as_bytes() != texts.len().to_string().as_bytes()
    {
        let count = excerpt(&String::from_utf8_lossy(count.as_bytes()));
        return Err(format!("the list has {} addresses, and its header counts {count}", texts.len()));
    }
    let mut endpoints = BTreeMap::new();
    for (at, text) in texts.iter().enumerate() {
        let address = Address::parse(text).map_err(|error| format!("address {at}: {error}"))?;
        let instance =
            Instance::new("", address).check().map_err(|error| format!("address {at}: {error}"))?;
        endpoints.insert(instance.id.clone(), instance.endpoint(AdvertisedState::Up));
    }
    let warming = response.headers.get(WARMING).is_some_and(|value| value == "1");
    let epoch = response.headers.get(EPOCH).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(InstanceList { epoch, rev: None, warming, endpoints })
}

/// Decodes the event `put` of a watch.
pub(super) fn put(data: &[u8], service: &str) -> Result<(Position, Change), String> {
    let envelope: Envelope<Put<ListedInstance>> =
        serde_json::from_slice(data).map_err(|error| diagnose(data, &error))?;
    let (id, endpoint) = envelope.body.instance.check(service)?;
    Ok((position(envelope.epoch, envelope.rev)?, Change::Put { id, endpoint }))
}

/// Decodes the event `delete` of a watch.
pub(super) fn delete(data: &[u8], service: &str) -> Result<(Position, Change), String> {
    // Without the `cause` of `wire::Delete`: an unknown one must not break the watch.
    #[derive(Deserialize)]
    struct Deleted {
        #[serde(default)]
        service: String,
        id: String,
    }
    let envelope: Envelope<Deleted> = serde_json::from_slice(data).map_err(|error| diagnose(data, &error))?;
    let Deleted { service: other, id } = envelope.body;
    if other != service {
        return Err(format!("it is of another service, `{}`", excerpt(&other)));
    }
    Ok((position(envelope.epoch, envelope.rev)?, Change::Delete { id }))
}

fn position(epoch: String, rev: u64) -> Result<Position, String> {
    if (1..=MAX_EPOCH).contains(&epoch.len()) && epoch.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(Position { epoch, rev })
    } else {
        Err(format!("the epoch `{}` is not 1 to {MAX_EPOCH} visible characters", excerpt(&epoch)))
    }
}

fn check_count(count: usize) -> Result<(), String> {
    if count <= MAX_INSTANCES {
        Ok(())
    } else {
        Err(format!("the list has {count} instances; at most {MAX_INSTANCES} are read"))
    }
}

/// Returns the message for a malformed list, with the instance if it is one that is malformed.
fn diagnose_list(body: &[u8], error: &serde_json::Error) -> String {
    let Ok(envelope) = serde_json::from_slice::<Envelope<Instances<Value>>>(body) else {
        return diagnose(body, error);
    };
    let malformed = envelope.body.instances.into_iter().enumerate().find_map(|(at, value)| {
        let id = value.get("id").and_then(Value::as_str).map(excerpt).unwrap_or_default();
        let error = read::<ListedInstance>(value).err()?;
        Some(format!("instance {at} (`{id}`): {error}"))
    });
    malformed.unwrap_or_else(|| diagnose(body, error))
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| parse_error(&error))
}

/// Returns the message for a body that is not the expected JSON.
pub(super) fn diagnose(body: &[u8], error: &serde_json::Error) -> String {
    let body = body.trim_ascii();
    if body.is_empty() {
        "the answer is empty".to_owned()
    } else if body.starts_with(b"<") {
        "the answer is HTML, not JSON".to_owned()
    } else if serde_json::from_slice::<IgnoredAny>(body).is_err_and(|error| error.is_eof()) {
        format!("the answer ends early, after {} bytes", body.len())
    } else {
        format!("the answer is not what was asked for: {}", parse_error(error))
    }
}

#[cfg(test)]
mod tests;
