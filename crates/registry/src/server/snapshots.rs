//! [`Snapshots`]: decides when the snapshot is written, and records how that went.
//!
//! The file's format, and writing it atomically, is left to [`snapshot_file`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::error::OpenError;
use super::metrics::Metrics;
use super::shared_store::{SharedStore, StoreVersion};
use super::snapshot_file;
use super::snapshot_lock::SnapshotLock;
use super::store::SavedStore;
use crate::wire::{SnapshotStatus, Timestamp};

/// The time in which changes are collected before they are written. 5 s are promised, part of which a slow disk
/// may need.
const COALESCE_WINDOW: Duration = Duration::from_secs(2);
/// The pause after a failed write.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Instances that are copied at once while the store is locked, which takes well under a millisecond.
const INSTANCES_AT_ONCE: usize = 500;

/// The snapshot file and the outcome of the last write.
#[derive(Debug)]
pub(super) struct Snapshots {
    file: PathBuf,
    /// The lock against other registries. Held while a file is written, even after the future that began it was
    /// dropped: two writers would overwrite each other's temporary file.
    lock: Arc<tokio::sync::Mutex<SnapshotLock>>,
    outcome: Mutex<Outcome>,
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
    pub(super) async fn open(file: PathBuf) -> Result<(Self, Option<SavedStore>), OpenError> {
        let path = file.clone();
        let unusable =
            |error| OpenError::Snapshot { path: file.clone(), source: std::io::Error::other(error) };
        // Before anything is created next to it.
        let checked = spawn_blocking(move || snapshot_file::check(&path)).await;
        checked.unwrap_or_else(|error| Err(unusable(error)))?;
        let lock = SnapshotLock::acquire(&file).await?;
        let path = file.clone();
        let read = spawn_blocking(move || snapshot_file::read(&path)).await;
        let saved = read.unwrap_or_else(|error| Err(unusable(error)))?;
        let lock = Arc::new(tokio::sync::Mutex::new(lock));
        Ok((Self { file, lock, outcome: Mutex::default() }, saved))
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

    /// Writes the file.
    pub(super) async fn save(&self, store: &SharedStore, metrics: &Metrics) -> Result<(), SaveFailed> {
        let mut lock = Arc::clone(&self.lock).lock_owned().await;
        // Read before anything is copied: changes during the copy belong to the next write.
        let version = store.version();
        let saved = copy(store).await;
        let (instances, file) = (saved.instances.len(), self.file.clone());
        let write = spawn_blocking(move || {
            let written = snapshot_file::write(&file, &saved, &mut lock);
            drop(lock);
            written
        });
        let written = write.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));

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
                    info!(snapshot = %file, instances, "the snapshot can be written again");
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

    /// Releases the lock, so that another registry may use the snapshot.
    pub(super) async fn release(&self) {
        *self.lock.lock().await = SnapshotLock::default();
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies what is saved, in parts, so that heartbeats are answered meanwhile.
async fn copy(store: &SharedStore) -> SavedStore {
    let mut saved = store.lock().saved_header();
    let mut last = None;
    loop {
        let part = store.lock().saved_instances_after(last.as_ref(), INSTANCES_AT_ONCE);
        let Some((instances, key)) = part else { return saved };
        saved.instances.extend(instances);
        last = Some(key);
        yield_now().await;
    }
}
