//! [`History`]: the revision, and the last changes as the events that tell of them.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::record::Record;
use crate::wire::{Answer, Cause, Delete, event};

/// How many changes are remembered, for watchers that are behind or come back. A change is some 500 bytes.
const MAX_CHANGES: usize = 4096;
/// How many changes are handed out at once, so that the store is not held long.
const MAX_AT_ONCE: usize = 256;

/// The revision, and the last changes. Each change makes one revision, so that the changes are
/// numbered without gaps.
#[derive(Debug)]
pub(super) struct History {
    pub(super) epoch: String,
    pub(super) rev: u64,
    /// What answers say of it; see `Store::warming`.
    pub(super) warming: bool,
    changes: VecDeque<Change>,
}

#[derive(Debug)]
struct Change {
    service: Arc<str>,
    /// The revision that the service had before.
    before: u64,
    /// The event, ready to be sent.
    frame: Bytes,
}

/// What changed after a revision.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) enum Since {
    /// These events bring whoever knew the revision to another one.
    Changes {
        /// The events, oldest first; may be none.
        frames: Vec<Bytes>,
        /// The revision after them.
        rev: u64,
    },
    /// It is not known any more, or never was.
    Lost,
}

impl History {
    pub(super) fn new(epoch: String) -> Self {
        Self { epoch, rev: 0, warming: false, changes: VecDeque::new() }
    }

    /// A record is new or has changed; gives it a revision, and returns that.
    pub(super) fn put(&mut self, service: &Arc<str>, before: u64, record: &mut Record) -> u64 {
        self.rev += 1;
        record.set_rev(self.rev);
        let name = text(service);
        let data = format!(r#"{},"service":{name},"instance":{}}}"#, self.head(self.rev), record.json());
        self.push(service, before, event::PUT, &data)
    }

    /// A record is gone; returns the revision of that.
    pub(super) fn delete(&mut self, service: &Arc<str>, before: u64, id: &str, cause: Cause) -> u64 {
        self.rev += 1;
        let gone = Delete { service: service.to_string(), id: id.to_owned(), cause };
        self.push(service, before, event::DELETE, &self.json(self.rev, gone))
    }

    /// What changed, over all services.
    pub(super) fn since(&self, rev: u64) -> Since {
        let Some(from) = self.index_after(rev) else { return Since::Lost };
        let frames: Vec<_> =
            self.changes.range(from..).take(MAX_AT_ONCE).map(|change| change.frame.clone()).collect();
        let rev = rev + frames.len() as u64;
        Since::Changes { frames, rev }
    }

    /// What changed of a service that has this revision now.
    pub(super) fn since_of(&self, service: &str, current: u64, rev: u64) -> Since {
        if rev > self.rev {
            return Since::Lost;
        }
        if current <= rev {
            return Since::Changes { frames: Vec::new(), rev: self.rev };
        }
        // It may be long ago that this service changed, so that changes of others may be forgotten.
        let from = self.index_after(rev).unwrap_or(0);
        let first = self.first_rev();
        let changes =
            self.changes.iter().enumerate().skip(from).filter(|(_, change)| &*change.service == service);
        let changes: Vec<_> = changes.take(MAX_AT_ONCE).collect();
        match (changes.first(), changes.last()) {
            (Some((_, oldest)), Some((at, _))) if oldest.before <= rev => Since::Changes {
                rev: if changes.len() < MAX_AT_ONCE { self.rev } else { first + *at as u64 },
                frames: changes.into_iter().map(|(_, change)| change.frame.clone()).collect(),
            },
            _ => Since::Lost,
        }
    }

    /// Which services changed; `None` if that is not known any more.
    pub(super) fn services_since(&self, rev: u64) -> Option<BTreeSet<Arc<str>>> {
        let from = self.index_after(rev)?;
        Some(self.changes.range(from..).map(|change| Arc::clone(&change.service)).collect())
    }

    /// `body` in an answer, as JSON.
    pub(super) fn json<T: Serialize>(&self, rev: u64, body: T) -> String {
        let answer = Answer { epoch: self.epoch.clone(), rev, warming: self.warming, body };
        serde_json::to_string(&answer).expect("its keys are texts")
    }

    /// How an answer begins, for what was serialized before and is put behind by hand.
    fn head(&self, rev: u64) -> String {
        let warming = if self.warming { r#","warming":true"# } else { "" };
        format!(r#"{{"epoch":{},"rev":{rev}{warming}"#, text(&self.epoch))
    }

    fn push(&mut self, service: &Arc<str>, before: u64, event: &str, data: &str) -> u64 {
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
        }
        let frame = frame(event, &self.epoch, self.rev, data);
        self.changes.push_back(Change { service: Arc::clone(service), before, frame });
        self.rev
    }

    /// The revision of the first change that is remembered.
    fn first_rev(&self) -> u64 {
        self.rev + 1 - self.changes.len() as u64
    }

    /// Where the changes after this revision begin; `None` if some are forgotten, or it is none of ours.
    fn index_after(&self, rev: u64) -> Option<usize> {
        if rev > self.rev {
            return None;
        }
        usize::try_from((rev + 1).checked_sub(self.first_rev())?).ok()
    }
}

/// One Server-Sent Event. `data` is JSON, and so has no line break.
pub(in crate::server) fn frame(event: &str, epoch: &str, rev: u64, data: &str) -> Bytes {
    format!("event: {event}\nid: {epoch}-{rev}\ndata: {data}\n\n").into()
}

/// The event that tells everything, of one service or of all.
pub(super) fn snapshot<'a>(
    history: &History,
    rev: u64,
    service: Option<&str>,
    records: impl Iterator<Item = &'a Record>,
) -> Bytes {
    let mut data = history.head(rev);
    if let Some(service) = service {
        // Writing to a `String` cannot fail.
        let _ = write!(data, r#","service":{}"#, text(service));
    }
    push_instances(&mut data, records);
    frame(event::SNAPSHOT, &history.epoch, rev, &data)
}

/// The body of a list.
pub(super) fn list(history: &History, rev: u64, records: &[&Record]) -> Bytes {
    let mut body = history.head(rev);
    push_instances(&mut body, records.iter().copied());
    body.into()
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

fn text(text: &str) -> String {
    serde_json::to_string(text).expect("it is a text")
}
