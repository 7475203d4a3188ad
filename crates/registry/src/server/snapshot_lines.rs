//! The changes after a snapshot's document, one a line: [`push`] writes them, [`apply`] applies them.
//!
//! A line that was cut off by a crash is not a change. Every batch of lines is on disk before the next, so only the last
//! one can be cut off.

use std::collections::HashMap;

use farcall_protocol::text::parse_error;
use serde::{Deserialize, Serialize};

use super::store::{SavedInstance, SavedStore};
use crate::wire::{InstanceName, Overrides};

/// A change of what was saved before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SavedChange {
    /// An instance as it is now.
    Put(Box<SavedInstance>),
    /// An instance is gone.
    Delete(InstanceName),
    /// All overrides of instances that have expired.
    Kept(Vec<(InstanceName, Overrides)>),
    /// `true` if instances may be missing.
    Warming(bool),
}

/// The state of the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// All of them were applied.
    Whole,
    /// The last ones were cut off, and are no changes.
    CutOff,
    /// There are changes after a malformed line, which were not applied. The text names the cause.
    Damaged(String),
}

/// Appends a change.
pub(super) fn push(lines: &mut Vec<u8>, change: &SavedChange) {
    serde_json::to_writer(&mut *lines, change).expect("all keys are strings");
    lines.push(b'\n');
}

/// Applies the lines up to the first that is malformed.
pub(super) fn apply(saved: SavedStore, lines: &[u8]) -> (SavedStore, Lines) {
    if lines.is_empty() {
        return (saved, Lines::Whole);
    }
    let mut applied = Applied::new(saved);
    let mut lines = lines.split_inclusive(|byte| *byte == b'\n');
    for line in lines.by_ref() {
        if let Err(error) = parse(line).map(|change| applied.apply(change)) {
            let state =
                if lines.any(|line| parse(line).is_ok()) { Lines::Damaged(error) } else { Lines::CutOff };
            return (applied.into_saved(), state);
        }
    }
    (applied.into_saved(), Lines::Whole)
}

/// Parses a line; the error is a message for the log.
fn parse(line: &[u8]) -> Result<SavedChange, String> {
    let line = line.strip_suffix(b"\n").ok_or("a change was cut off")?;
    let mut change = serde_json::from_slice(line)
        .map_err(|error| format!("a change is malformed: {}", parse_error(&error)))?;
    if let SavedChange::Put(instance) = &mut change {
        instance.registered = instance.registered.clone().check().map_err(|error| error.to_string())?;
    }
    Ok(change)
}

/// A saved store to which changes are applied.
struct Applied {
    saved: SavedStore,
    /// `None` for instances that are gone.
    instances: Vec<Option<SavedInstance>>,
    /// The positions in `instances`.
    positions: HashMap<InstanceName, usize>,
}

impl Applied {
    fn new(mut saved: SavedStore) -> Self {
        let instances: Vec<_> = saved.instances.drain(..).map(Some).collect();
        let names = instances.iter().flatten().map(name);
        let positions = names.enumerate().map(|(at, name)| (name, at)).collect();
        Self { saved, instances, positions }
    }

    fn apply(&mut self, change: SavedChange) {
        match change {
            SavedChange::Put(instance) => {
                let at = *self.positions.entry(name(&instance)).or_insert(self.instances.len());
                if at == self.instances.len() {
                    self.instances.push(None);
                }
                self.instances[at] = Some(*instance);
            }
            SavedChange::Delete(name) => {
                if let Some(at) = self.positions.remove(&name) {
                    self.instances[at] = None;
                }
            }
            SavedChange::Kept(kept) => self.saved.expired_overrides = kept,
            SavedChange::Warming(warming) => self.saved.warming = warming,
        }
    }

    fn into_saved(mut self) -> SavedStore {
        self.saved.instances = self.instances.into_iter().flatten().collect();
        self.saved
    }
}

fn name(instance: &SavedInstance) -> InstanceName {
    InstanceName { service: instance.registered.service.clone(), id: instance.registered.id.clone() }
}
