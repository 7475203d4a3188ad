//! Reading what a registry answers: lists, and the changes that a watch tells of.
//!
//! All or nothing: one instance that is not well-formed, and the whole of it is refused, with a
//! sentence that says which one. Nothing in here waits or remembers.

use std::collections::BTreeMap;

use farcall_discovery::{Endpoint, Instance, State};
use farcall_transport::Address;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::failure::excerpt;
use super::http::Answered;
use crate::wire::{Answer, EPOCH, Instances, Put, SERVER_COUNT, WARMING};

/// The most instances of a service, as many as a registry has in all.
pub(super) const MAX_INSTANCES: usize = 100_000;
/// The longest name of an epoch: it is sent back in a URL.
const MAX_EPOCH: usize = 128;

/// A list, by the instances' ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct List {
    /// Which run of the registry it is of. The simple interface may leave it out.
    pub(super) epoch: Option<String>,
    /// Its moment in that run; the simple interface has none.
    pub(super) rev: Option<u64>,
    /// The registry does not know yet what it does not know.
    pub(super) warming: bool,
    pub(super) endpoints: BTreeMap<String, Endpoint>,
}

/// What moment of a registry a change is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: String,
    pub(super) rev: u64,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Put { id: String, endpoint: Endpoint },
    Delete { id: String },
}

/// As much of an instance as a client wants to know.
#[derive(Debug, Deserialize)]
struct Seen {
    #[serde(flatten)]
    instance: Instance,
    #[serde(default)]
    state: State,
}

impl Seen {
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

/// The list of the full interface, and the snapshot of a watch.
pub(super) fn full(body: &[u8], service: &str) -> Result<List, String> {
    let answer: Answer<Instances<Seen>> =
        serde_json::from_slice(body).map_err(|error| diagnose_full(body, &error))?;
    check_count(answer.body.instances.len())?;
    let Position { epoch, rev } = position(answer.epoch, answer.rev)?;
    let endpoints =
        answer.body.instances.into_iter().map(|seen| seen.check(service)).collect::<Result<_, _>>()?;
    Ok(List { epoch: Some(epoch), rev: Some(rev), warming: answer.warming, endpoints })
}

/// The list of the simple interface: an array of addresses.
pub(super) fn simple(answered: &Answered) -> Result<List, String> {
    let body = &answered.body;
    let texts: Vec<String> = serde_json::from_slice(body).map_err(|error| diagnose(body, &error))?;
    check_count(texts.len())?;
    // Says the same twice, so that half a list is found out that happens to be well-formed.
    if let Some(count) = answered.headers.get(SERVER_COUNT)
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
        endpoints.insert(instance.id.clone(), instance.endpoint(State::Up));
    }
    let warming = answered.headers.get(WARMING).is_some_and(|value| value == "1");
    let epoch = answered.headers.get(EPOCH).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(List { epoch, rev: None, warming, endpoints })
}

/// A `put` of a watch.
pub(super) fn put(data: &[u8], service: &str) -> Result<(Position, Change), String> {
    let answer: Answer<Put<Seen>> = serde_json::from_slice(data).map_err(|error| diagnose(data, &error))?;
    let (id, endpoint) = answer.body.instance.check(service)?;
    Ok((position(answer.epoch, answer.rev)?, Change::Put { id, endpoint }))
}

/// A `delete` of a watch.
pub(super) fn delete(data: &[u8], service: &str) -> Result<(Position, Change), String> {
    // As much of `wire::Delete` as a client wants to know: a cause that is new must not break the watch.
    #[derive(Deserialize)]
    struct Gone {
        #[serde(default)]
        service: String,
        id: String,
    }
    let answer: Answer<Gone> = serde_json::from_slice(data).map_err(|error| diagnose(data, &error))?;
    let Gone { service: other, id } = answer.body;
    if other != service {
        return Err(format!("it is of another service, `{}`", excerpt(&other)));
    }
    Ok((position(answer.epoch, answer.rev)?, Change::Delete { id }))
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

/// What is wrong with a list: which instance, where it is one.
fn diagnose_full(body: &[u8], error: &serde_json::Error) -> String {
    let Ok(answer) = serde_json::from_slice::<Answer<Instances<Value>>>(body) else {
        return diagnose(body, error);
    };
    let wrong = answer.body.instances.into_iter().enumerate().find_map(|(at, value)| {
        let id = value.get("id").and_then(Value::as_str).map(excerpt).unwrap_or_default();
        let error = read::<Seen>(value).err()?;
        Some(format!("instance {at} (`{id}`): {}", excerpt(&error)))
    });
    wrong.unwrap_or_else(|| diagnose(body, error))
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// What a body is that is not what was asked for.
pub(super) fn diagnose(body: &[u8], error: &serde_json::Error) -> String {
    let body = body.trim_ascii();
    if body.is_empty() {
        "the answer is empty".to_owned()
    } else if body.starts_with(b"<") {
        "the answer is HTML, not JSON".to_owned()
    } else if serde_json::from_slice::<IgnoredAny>(body).is_err_and(|error| error.is_eof()) {
        format!("the answer ends early, after {} bytes", body.len())
    } else {
        format!("the answer is not what was asked for: {}", excerpt(&error.to_string()))
    }
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
