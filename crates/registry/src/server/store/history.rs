//! [`History`]: the store's revision, and the last changes as the events that watchers receive.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use super::record::Record;
use crate::wire::{Cause, Delete, Envelope, event};

/// Changes that are kept for watchers that lag behind or reconnect. A change is some 500 bytes.
pub(super) const MAX_CHANGES: usize = 4096;
/// The maximum size of these changes, in bytes; they share the JSON of the instances.
const MAX_CHANGES_BYTES: usize = 16 * 1024 * 1024;
/// Changes that are returned at once, so that the store is not locked for long, and that a watcher holds.
const MAX_AT_ONCE: usize = 256;
/// The maximum size of the changes that are returned at once, in bytes, if there is more than one.
const MAX_BYTES_AT_ONCE: usize = 32 * 1024;
/// The time in which changes after another are collected and sent together: with a thousand watchers, the writes are
/// the cost. The first change after a pause is published at once.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);

/// The revision, and the last changes. Each change makes one revision, so that changes are numbered without
/// gaps.
#[derive(Debug)]
pub(super) struct History {
    pub(super) epoch: String,
    pub(super) rev: u64,
    /// `true` while answers carry `warming`; see `Store::is_warming`.
    pub(super) warming: bool,
    changes: VecDeque<Change>,
    /// The size of `changes`, in bytes.
    bytes: usize,
    published: Published,
}

/// The revisions up to which watchers are told. All watchers that keep up go from one to the next, so that the events
/// between the two are joined once and shared.
#[derive(Debug, Default)]
struct Published {
    rev: u64,
    /// The revision before that.
    before: u64,
    at: Option<Instant>,
    /// The events between the two: of all services, and of single ones. They take no more than the changes do twice.
    joined: Option<Bytes>,
    joined_of: HashMap<Arc<str>, Bytes>,
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
        let (changes, published) = (VecDeque::new(), Published::default());
        Self { epoch, rev: 0, warming: false, changes, bytes: 0, published }
    }

    /// Records that `record` is new or has changed; sets its new revision and its JSON, and returns the revision.
    pub(super) fn put(&mut self, service: &Arc<str>, before: u64, record: &mut Record) -> u64 {
        self.rev += 1;
        record.set_rev(self.rev);
        let mut frame = self.begin_frame(event::PUT, self.rev);
        frame.extend_from_slice(self.head(self.rev).as_bytes());
        // Writing to a `Vec` cannot fail.
        let _ = write!(frame, r#","service":{},"instance":"#, quote(service));
        let begin = frame.len();
        serde_json::to_writer(&mut frame, record.public()).expect("all keys are strings");
        let end = frame.len();
        frame.extend_from_slice(b"}\n\n");
        // It is kept as long as the instance, whose JSON is a part of it.
        frame.shrink_to_fit();
        let frame = Bytes::from(frame);
        record.set_json(frame.slice(begin..end));
        self.push(service, before, frame)
    }

    /// Records that an instance was removed; returns the revision of the removal.
    pub(super) fn delete(&mut self, service: &Arc<str>, before: u64, id: &str, cause: Cause) -> u64 {
        self.rev += 1;
        let deleted = Delete { service: service.to_string(), id: id.to_owned(), cause };
        let mut frame = self.begin_frame(event::DELETE, self.rev);
        frame.extend_from_slice(self.json(self.rev, deleted).as_bytes());
        frame.extend_from_slice(b"\n\n");
        frame.shrink_to_fit();
        self.push(service, before, frame.into())
    }

    /// The revision up to which watchers are told.
    pub(super) fn published_rev(&self) -> u64 {
        self.published.rev
    }

    /// Publishes the changes, at most once in an interval; returns when to read again, if there are others.
    pub(super) fn publish(&mut self, now: Instant) -> Option<Instant> {
        if self.published.rev == self.rev {
            return None;
        }
        let due = self.published.at.map(|at| at + PUBLISH_INTERVAL).filter(|due| *due > now);
        if due.is_none() {
            self.published = Published {
                rev: self.rev,
                before: self.published.rev,
                at: Some(now),
                ..Published::default()
            };
        }
        due
    }

    /// Returns the published changes after `rev`, of all services, or of one whose revision is `current`.
    pub(super) fn published_since(&mut self, service: Option<(&Arc<str>, u64)>, rev: u64) -> ChangesSince {
        let (before, published) = (self.published.before, self.published.rev);
        let since = match service {
            None => self.since(rev, published),
            Some((name, current)) => self.since_of(name, current, rev, published),
        };
        match since {
            // A watcher that lags behind gets the events one by one, which are shared, too.
            ChangesSince::Known { frames, rev: to }
                if frames.len() > 1 && (rev, to) == (before, published) =>
            {
                let joined = match service {
                    None => self.published.joined.get_or_insert_with(|| frames.concat().into()),
                    Some((name, _)) => {
                        let of = &mut self.published.joined_of;
                        of.entry(Arc::clone(name)).or_insert_with(|| frames.concat().into())
                    }
                };
                ChangesSince::Known { frames: vec![joined.clone()], rev: to }
            }
            since => since,
        }
    }

    /// Returns the changes of all services after `rev`, up to `last`.
    pub(super) fn since(&self, rev: u64, last: u64) -> ChangesSince {
        let Some(from) = self.index_after(rev) else { return ChangesSince::Lost };
        let count = usize::try_from(last.saturating_sub(rev)).unwrap_or(usize::MAX);
        let frames = at_once(self.changes.range(from..).take(count).map(|change| &change.frame));
        let rev = rev + frames.len() as u64;
        ChangesSince::Known { frames, rev }
    }

    /// Returns the changes after `rev`, up to `last`, of a service whose revision is `current`.
    pub(super) fn since_of(&self, service: &str, current: u64, rev: u64, last: u64) -> ChangesSince {
        if rev > self.rev {
            return ChangesSince::Lost;
        }
        // From the last change of this service to the one before it, so that those of others are not visited. Dropped
        // changes of others do not matter.
        let mut found = Vec::new();
        let mut at = current;
        while at > rev {
            let change = self.index_of(at).map(|index| &self.changes[index]);
            let Some(change) = change.filter(|change| &*change.service == service) else {
                return ChangesSince::Lost;
            };
            if at <= last {
                found.push((at, &change.frame));
            }
            at = change.before;
        }
        let frames = at_once(found.iter().rev().map(|(_, frame)| *frame));
        let rest = found.len() - frames.len();
        let rev = if rest == 0 { last.max(rev) } else { found[rest].0 };
        ChangesSince::Known { frames, rev }
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

    /// Returns what stands before the instances in the event that carries all of them, of one service or of all.
    pub(super) fn snapshot_head(&self, rev: u64, service: Option<&str>) -> Bytes {
        let mut head = self.begin_frame(event::SNAPSHOT, rev);
        head.extend_from_slice(self.head(rev).as_bytes());
        if let Some(service) = service {
            // Writing to a `Vec` cannot fail.
            let _ = write!(head, r#","service":{}"#, quote(service));
        }
        head.extend_from_slice(br#","instances":["#);
        head.into()
    }

    /// Returns what stands before the items of a list with this name.
    pub(super) fn list_head(&self, rev: u64, name: &str) -> Bytes {
        format!(r#"{},"{name}":["#, self.head(rev)).into()
    }

    /// The beginning of an [`Envelope`], to which fields are appended that are serialized already.
    fn head(&self, rev: u64) -> String {
        let warming = if self.warming { r#","warming":true"# } else { "" };
        format!(r#"{{"epoch":{},"rev":{rev}{warming}"#, quote(&self.epoch))
    }

    fn begin_frame(&self, event: &str, rev: u64) -> Vec<u8> {
        format!("event: {event}\nid: {}-{rev}\ndata: ", self.epoch).into()
    }

    fn push(&mut self, service: &Arc<str>, before: u64, frame: Bytes) -> u64 {
        self.bytes += frame.len();
        self.changes.push_back(Change { service: Arc::clone(service), before, frame });
        while self.changes.len() > MAX_CHANGES || self.bytes > MAX_CHANGES_BYTES {
            let dropped = self.changes.pop_front();
            self.bytes -= dropped.map_or(0, |change| change.frame.len());
        }
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

    /// Returns the index of the change that made a revision; `None` if it was dropped.
    fn index_of(&self, rev: u64) -> Option<usize> {
        let index = usize::try_from(rev.checked_sub(self.first_rev())?).ok()?;
        (index < self.changes.len()).then_some(index)
    }
}

/// Returns one Server-Sent Event. `data` is JSON, which has no line breaks.
pub(in crate::server) fn frame(event: &str, epoch: &str, rev: u64, data: &str) -> Bytes {
    format!("event: {event}\nid: {epoch}-{rev}\ndata: {data}\n\n").into()
}

/// Takes the first events, as many as are returned at once.
fn at_once<'a>(frames: impl Iterator<Item = &'a Bytes>) -> Vec<Bytes> {
    let mut bytes = 0;
    let fits = |frame: &&Bytes| {
        let first = bytes == 0;
        bytes += frame.len();
        first || bytes <= MAX_BYTES_AT_ONCE
    };
    frames.take(MAX_AT_ONCE).take_while(fits).cloned().collect()
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a string is valid JSON")
}
