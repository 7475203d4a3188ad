//! [`Snapshots`]: decides when the snapshot is written and how much of it, and records how that went.
//!
//! Changes are appended; the whole is written when they take more than it does. The file's format, and writing it
//! atomically, is left to [`snapshot_file`].

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::error::OpenError;
use super::metrics::Metrics;
use super::shared_store::{SharedStore, StoreVersion};
use super::snapshot_file::{self, Part, Written};
use super::snapshot_lines::{self, SavedChange};
use super::snapshot_link::follow_links;
use super::snapshot_lock::SnapshotLock;
use super::store::{SavedStore, Unsaved};
use crate::wire::{InstanceName, SnapshotStatus, Timestamp};

/// The time in which changes are collected before they are written. 5 s are promised, part of which a slow disk
/// may need.
const COALESCE_WINDOW: Duration = Duration::from_secs(2);
/// The pause after a failed write.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Instances that are copied at once while the store is locked: with 4 KiB of metadata each, well under a millisecond.
const INSTANCES_AT_ONCE: usize = 64;
/// Names of changed instances that are dropped between two requests: some 100 µs.
const MAX_DROPPED_INLINE: usize = 2048;
/// Parts of these that wait to be written.
const MAX_PARTS_WAITING: usize = 2;
/// The size of changes that are appended at once, in bytes, except for the last of them.
const APPENDED_AT_ONCE: usize = 1024 * 1024;

/// The snapshot file and the outcome of the last write.
#[derive(Debug)]
pub(super) struct Snapshots {
    file: PathBuf,
    /// The parts of the file that this registry holds. Locked while a file is written, even after the future that began it was
    /// dropped: two writers would overwrite each other's temporary file.
    held: Arc<tokio::sync::Mutex<Held>>,
    outcome: Mutex<Outcome>,
}

/// The lock against other registries, and the file as this one has written it.
#[derive(Debug, Default)]
struct Held {
    lock: SnapshotLock,
    written: Option<Written>,
}

/// The changes that are being saved.
struct Saving<'a> {
    store: &'a SharedStore,
    /// `None` once they are saved.
    unsaved: Option<Unsaved>,
}

#[derive(Debug, Default)]
struct Outcome {
    /// The version in the file; `None` if nothing was written yet.
    written: Option<StoreVersion>,
    status: SnapshotStatus,
    failing: bool,
}

/// The snapshot could not be written; the cause was logged.
#[derive(Debug)]
pub(super) struct SaveFailed;

impl Snapshots {
    /// Locks the snapshot, and reads it if there is one.
    pub(super) async fn open(path: PathBuf) -> Result<(Self, Option<SavedStore>), OpenError> {
        let unusable = |error| OpenError::Snapshot { path: path.clone(), error: io::Error::other(error) };
        let named = path.clone();
        let followed = spawn_blocking(move || follow_links(&named)).await.map_err(unusable)?;
        let file = followed.map_err(|error| OpenError::Snapshot { path: path.clone(), error })?;
        let path = file.clone();
        // Before anything is created next to it.
        let checked = spawn_blocking(move || snapshot_file::check(&path)).await;
        checked.unwrap_or_else(|error| Err(unusable(error)))?;
        let lock = SnapshotLock::acquire(&file).await?;
        let path = file.clone();
        let read = spawn_blocking(move || snapshot_file::read(&path)).await;
        let saved = read.unwrap_or_else(|error| Err(unusable(error)))?;
        let held = Arc::new(tokio::sync::Mutex::new(Held { lock, written: None }));
        Ok((Self { file, held, outcome: Mutex::default() }, saved))
    }

    /// Returns `true` if the file does not have this version.
    pub(super) fn is_behind(&self, version: StoreVersion) -> bool {
        self.outcome().written != Some(version)
    }

    pub(super) fn status(&self) -> SnapshotStatus {
        self.outcome().status
    }

    /// Writes the file after changes, at most every 2 s, and once at the start, to find out early if it cannot be
    /// written. Never ready.
    pub(super) async fn run(&self, store: &SharedStore, metrics: &Metrics) {
        let mut changes = store.subscribe(None);
        loop {
            if self.is_behind(store.version()) {
                let outcome = self.save(store, metrics).await;
                // Pause even if more has changed by now: during constant changes, constant writing would take
                // what requests need.
                sleep(if outcome.is_ok() { COALESCE_WINDOW } else { RETRY_PAUSE }).await;
            } else if timeout(COALESCE_WINDOW, changes.changed()).await.is_ok() {
                sleep(COALESCE_WINDOW).await;
            }
            // Without a change the version is read again: a further registration of a known instance wakes no watcher.
        }
    }

    /// Writes what has changed.
    pub(super) async fn save(&self, store: &SharedStore, metrics: &Metrics) -> Result<(), SaveFailed> {
        let held = Arc::clone(&self.held).lock_owned().await;
        // Read before anything is copied: changes during the copy belong to the next write.
        let version = store.version();
        let mut saving = Saving { store, unsaved: Some(store.lock().take_unsaved()) };
        let written = self.write(held, store, saving.unsaved.as_ref()).await;
        if written.is_ok()
            && let Some(saved) = saving.unsaved.take()
        {
            drop_aside(saved).await;
        }
        drop(saving);

        let mut outcome = self.outcome();
        let file = self.file.display();
        match written {
            Ok(()) => {
                let now = Timestamp::now();
                outcome.written = Some(version);
                outcome.status.written_at = Some(now);
                let since = SystemTime::from(now).duration_since(UNIX_EPOCH).unwrap_or_default();
                metrics.snapshot_written(since.as_secs_f64());
                if std::mem::take(&mut outcome.failing) {
                    info!(snapshot = %file, "the snapshot can be written again");
                }
                Ok(())
            }
            Err(error) => {
                outcome.status.failures += 1;
                metrics.snapshot_failures.increment(1);
                if !std::mem::replace(&mut outcome.failing, true) {
                    warn!(snapshot = %file, %error, "the snapshot cannot be written; retrying every 5 s");
                }
                Err(SaveFailed)
            }
        }
    }

    /// Appends the changes, or replaces the file if that is better.
    async fn write(
        &self,
        held: OwnedMutexGuard<Held>,
        store: &SharedStore,
        unsaved: Option<&Unsaved>,
    ) -> io::Result<()> {
        let has_room = held.written.as_ref().is_some_and(|written| !written.is_full());
        match unsaved.filter(|unsaved| has_room && !unsaved.is_all()) {
            None => self.replace(held, store).await,
            Some(unsaved) => match self.append(held, store, unsaved).await? {
                None => Ok(()),
                Some(held) => self.replace(held, store).await,
            },
        }
    }

    /// Appends the changes; returns the guard if the file must be replaced instead.
    async fn append(
        &self,
        mut held: OwnedMutexGuard<Held>,
        store: &SharedStore,
        unsaved: &Unsaved,
    ) -> io::Result<Option<OwnedMutexGuard<Held>>> {
        let mut lines = Vec::new();
        let SavedStore { warming, expired_overrides, .. } = store.lock().saved_header();
        if unsaved.warming {
            snapshot_lines::push(&mut lines, &SavedChange::Warming(warming));
        }
        if unsaved.overrides {
            snapshot_lines::push(&mut lines, &SavedChange::Kept(expired_overrides));
        }
        let mut rest = unsaved.names().peekable();
        loop {
            let names: Vec<_> = rest.by_ref().take(INSTANCES_AT_ONCE).collect();
            let saved: Vec<_> = {
                let store = store.lock();
                names.iter().map(|name| store.saved_instance(name)).collect()
            };
            for ((service, id), saved) in names.iter().zip(saved) {
                let (service, id) = (service.to_string(), id.to_string());
                let gone = || SavedChange::Delete(InstanceName { service, id });
                let change = saved.map_or_else(gone, |saved| SavedChange::Put(Box::new(saved)));
                snapshot_lines::push(&mut lines, &change);
            }
            if lines.len() >= APPENDED_AT_ONCE || rest.peek().is_none() {
                let (file, lines) = (self.file.clone(), std::mem::take(&mut lines));
                let append = spawn_blocking(move || {
                    let appended = match &mut held.written {
                        Some(written) => written.append(&file, &lines)? && !written.is_full(),
                        None => false,
                    };
                    io::Result::Ok((held, appended))
                });
                let (back, appended) = append.await.map_err(io::Error::other)??;
                if rest.peek().is_none() && appended {
                    return Ok(None);
                }
                if !appended {
                    return Ok(Some(back));
                }
                held = back;
            }
            yield_now().await;
        }
    }

    /// Replaces the file. The store is copied in parts, so that heartbeats are answered meanwhile; few of them are in
    /// memory at a time.
    async fn replace(&self, mut held: OwnedMutexGuard<Held>, store: &SharedStore) -> io::Result<()> {
        let header = store.lock().saved_header();
        let (sender, mut parts) = mpsc::channel(MAX_PARTS_WAITING);
        let file = self.file.clone();
        let write = spawn_blocking(move || {
            let written = snapshot_file::replace(&file, &header, &mut parts, &mut held.lock)?;
            held.written = Some(written);
            Ok(())
        });
        let mut last = None;
        loop {
            let part = store.lock().saved_instances_after(last.as_ref(), INSTANCES_AT_ONCE);
            let (part, key) =
                part.map_or((Part::End, None), |(saved, key)| (Part::Instances(saved), Some(key)));
            // If the writer has failed, its error tells.
            if sender.send(part).await.is_err() || key.is_none() {
                break;
            }
            last = key;
        }
        write.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Releases the lock, so that another registry may use the snapshot.
    pub(super) async fn release(&self) {
        *self.held.lock().await = Held::default();
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what was saved, on another thread if that takes long.
async fn drop_aside(saved: Unsaved) {
    if saved.len() > MAX_DROPPED_INLINE {
        // It cannot fail, and the runtime may be ending.
        let _ = spawn_blocking(move || drop(saved)).await;
    }
}

/// Puts back what could not be saved, also if the future that saves it is dropped.
impl Drop for Saving<'_> {
    fn drop(&mut self) {
        if let Some(unsaved) = self.unsaved.take() {
            self.store.lock().put_back_unsaved(unsaved);
        }
    }
}
