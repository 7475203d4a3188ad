//! [`History`]: the store's revision, and the last changes as the events that watchers receive.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::record::Record;
use crate::wire::{Cause, Delete, Envelope, event};

/// Changes that are kept for watchers that lag behind or reconnect. A change is some 500 bytes.
const MAX_CHANGES: usize = 4096;
/// Changes that are returned at once, so that the store is not locked for long.
const MAX_AT_ONCE: usize = 256;

/// The revision, and the last changes. Each change makes one revision, so that changes are numbered without
/// gaps.
#[derive(Debug)]
pub(super) struct History {
    pub(super) epoch: String,
    pub(super) rev: u64,
    /// `true` while answers carry `warming`; see `Store::is_warming`.
    pub(super) warming: bool,
    changes: VecDeque<Change>,
}

#[derive(Debug)]
struct Change {
    service: Arc<str>,
    /// The service's revision before the change.
    before: u64,
    /// The event, serialized.
    frame: Bytes,
}

/// The changes after a revision.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) enum ChangesSince {
    /// The changes are known, or the first of them.
    Known {
        /// The events, oldest first; empty if nothing has changed.
        frames: Vec<Bytes>,
        /// The revision after these events.
        rev: u64,
    },
    /// Some of the changes were dropped, or the revision is not one of this registry.
    Lost,
}

impl History {
    pub(super) fn new(epoch: String) -> Self {
        Self { epoch, rev: 0, warming: false, changes: VecDeque::new() }
    }

    /// Records that `record` is new or has changed; sets and returns its new revision.
    pub(super) fn put(&mut self, service: &Arc<str>, before: u64, record: &mut Record) -> u64 {
        self.rev += 1;
        record.set_rev(self.rev);
        let name = quote(service);
        let data = format!(r#"{},"service":{name},"instance":{}}}"#, self.head(self.rev), record.json());
        self.push(service, before, event::PUT, &data)
    }

    /// Records that an instance was removed; returns the revision of the removal.
    pub(super) fn delete(&mut self, service: &Arc<str>, before: u64, id: &str, cause: Cause) -> u64 {
        self.rev += 1;
        let deleted = Delete { service: service.to_string(), id: id.to_owned(), cause };
        self.push(service, before, event::DELETE, &self.json(self.rev, deleted))
    }

    /// Returns the changes of all services after `rev`.
    pub(super) fn since(&self, rev: u64) -> ChangesSince {
        let Some(from) = self.index_after(rev) else { return ChangesSince::Lost };
        let frames: Vec<_> =
            self.changes.range(from..).take(MAX_AT_ONCE).map(|change| change.frame.clone()).collect();
        let rev = rev + frames.len() as u64;
        ChangesSince::Known { frames, rev }
    }

    /// Returns the changes after `rev` of a service whose revision is `current`.
    pub(super) fn since_of(&self, service: &str, current: u64, rev: u64) -> ChangesSince {
        if rev > self.rev {
            return ChangesSince::Lost;
        }
        if current <= rev {
            return ChangesSince::Known { frames: Vec::new(), rev: self.rev };
        }
        // Dropped changes of other services do not matter if this service's changes are all still here.
        let from = self.index_after(rev).unwrap_or(0);
        let first = self.first_rev();
        let changes =
            self.changes.iter().enumerate().skip(from).filter(|(_, change)| &*change.service == service);
        let changes: Vec<_> = changes.take(MAX_AT_ONCE).collect();
        match (changes.first(), changes.last()) {
            (Some((_, oldest)), Some((at, _))) if oldest.before <= rev => ChangesSince::Known {
                rev: if changes.len() < MAX_AT_ONCE { self.rev } else { first + *at as u64 },
                frames: changes.into_iter().map(|(_, change)| change.frame.clone()).collect(),
            },
            _ => ChangesSince::Lost,
        }
    }

    /// Returns the services that changed after `rev`; `None` if some of the changes were dropped.
    pub(super) fn services_since(&self, rev: u64) -> Option<BTreeSet<Arc<str>>> {
        let from = self.index_after(rev)?;
        Some(self.changes.range(from..).map(|change| Arc::clone(&change.service)).collect())
    }

    /// Returns `body` in an [`Envelope`], as JSON.
    pub(super) fn json<T: Serialize>(&self, rev: u64, body: T) -> String {
        let envelope = Envelope { epoch: self.epoch.clone(), rev, warming: self.warming, body };
        serde_json::to_string(&envelope).expect("all keys are strings")
    }

    /// The event that carries all instances, of one service or of all.
    pub(super) fn snapshot<'a>(
        &self,
        rev: u64,
        service: Option<&str>,
        records: impl Iterator<Item = &'a Record>,
    ) -> Bytes {
        let mut data = self.head(rev);
        if let Some(service) = service {
            // Writing to a `String` cannot fail.
            let _ = write!(data, r#","service":{}"#, quote(service));
        }
        push_instances(&mut data, records);
        frame(event::SNAPSHOT, &self.epoch, rev, &data)
    }

    /// The body of a list.
    pub(super) fn list(&self, rev: u64, records: &[&Record]) -> Bytes {
        let mut body = self.head(rev);
        push_instances(&mut body, records.iter().copied());
        body.into()
    }

    /// The beginning of an [`Envelope`], to which records are appended that are serialized already.
    fn head(&self, rev: u64) -> String {
        let warming = if self.warming { r#","warming":true"# } else { "" };
        format!(r#"{{"epoch":{},"rev":{rev}{warming}"#, quote(&self.epoch))
    }

    fn push(&mut self, service: &Arc<str>, before: u64, event: &str, data: &str) -> u64 {
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
        }
        let frame = frame(event, &self.epoch, self.rev, data);
        self.changes.push_back(Change { service: Arc::clone(service), before, frame });
        self.rev
    }

    /// The revision of the oldest change that is kept.
    fn first_rev(&self) -> u64 {
        self.rev + 1 - self.changes.len() as u64
    }

    /// Returns the index of the first change after `rev`; `None` if it was dropped, or `rev` is in the future.
    fn index_after(&self, rev: u64) -> Option<usize> {
        if rev > self.rev {
            return None;
        }
        usize::try_from((rev + 1).checked_sub(self.first_rev())?).ok()
    }
}

/// Returns one Server-Sent Event. `data` is JSON, which has no line breaks.
pub(in crate::server) fn frame(event: &str, epoch: &str, rev: u64, data: &str) -> Bytes {
    format!("event: {event}\nid: {epoch}-{rev}\ndata: {data}\n\n").into()
}

fn push_instances<'a>(object: &mut String, records: impl Iterator<Item = &'a Record>) {
    object.push_str(r#","instances":["#);
    for (at, record) in records.enumerate() {
        if at > 0 {
            object.push(',');
        }
        object.push_str(record.json());
    }
    object.push_str("]}");
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a string is valid JSON")
}
