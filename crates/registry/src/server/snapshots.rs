//! [`Snapshots`]: when the snapshot is written, and how that went.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::{spawn_blocking, yield_now};
use tokio::time::sleep;
use tracing::{info, warn};

use super::registry::{OpenError, Registry};
use super::snapshot_file;
use super::store::Saved;
use crate::wire::{SnapshotFile, Timestamp};

/// How long changes are gathered before they are written: promised are 5 s, and a slow disk takes a
/// part of them.
const GATHER: Duration = Duration::from_secs(2);
/// After a failed write.
const RETRY: Duration = Duration::from_secs(5);
/// How many instances are copied while the store is held: well under a millisecond's worth.
const AT_ONCE: usize = 500;

#[derive(Debug)]
pub(super) struct Snapshots {
    file: PathBuf,
    /// Held while a file is written, also after the future that began it was dropped: two writers
    /// would spoil each other's temporary file.
    writing: Arc<tokio::sync::Mutex<()>>,
    outcome: Mutex<Outcome>,
}

#[derive(Debug, Default)]
struct Outcome {
    /// What the file has; none, if it was not written yet.
    written: Option<(u64, bool)>,
    status: SnapshotFile,
    failing: bool,
}

/// It could not be written, which is logged.
#[derive(Debug)]
pub(super) struct NotSaved;

impl Snapshots {
    /// Reads what is there.
    pub(super) async fn open(file: PathBuf) -> Result<(Self, Option<Saved>), OpenError> {
        let path = file.clone();
        let read = spawn_blocking(move || snapshot_file::read(&path)).await;
        let saved = read.unwrap_or_else(|error| {
            Err(OpenError::Snapshot { path: file.clone(), source: std::io::Error::other(error) })
        })?;
        Ok((Self { file, writing: Arc::default(), outcome: Mutex::default() }, saved))
    }

    /// Whether there is something to write.
    pub(super) fn is_behind(&self, state: (u64, bool)) -> bool {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).written != Some(state)
    }

    pub(super) fn status(&self) -> SnapshotFile {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).status
    }

    /// Writes the file where something has changed, at most every 2 s, and once at the start, which shows early if
    /// it can't be written.
    pub(super) async fn save_for_ever(&self, registry: &Registry) {
        let mut changes = registry.inner.watchers.subscribe(None);
        loop {
            if self.is_behind(registry.saved_state()) {
                let outcome = self.save(registry).await;
                // Also where more has changed by now: where changes never end, writing would not either, and
                // take what requests need.
                sleep(if outcome.is_ok() { GATHER } else { RETRY }).await;
            } else {
                changes.changed().await;
                sleep(GATHER).await;
            }
        }
    }

    /// Writes the file.
    pub(super) async fn save(&self, registry: &Registry) -> Result<(), NotSaved> {
        let guard = Arc::clone(&self.writing).lock_owned().await;
        // Before anything is copied: what changes meanwhile is written the next time.
        let state = registry.saved_state();
        let saved = collect(registry).await;
        let (instances, file) = (saved.instances.len(), self.file.clone());
        let write = spawn_blocking(move || {
            let written = snapshot_file::write(&file, &saved);
            drop(guard);
            written
        });
        let written = write.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));

        let metrics = &registry.inner.metrics;
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.file.display();
        match written {
            Ok(()) => {
                let now = Timestamp::now();
                outcome.written = Some(state);
                outcome.status.written_at = Some(now);
                let since = SystemTime::from(now).duration_since(UNIX_EPOCH).unwrap_or_default();
                metrics.snapshot_written(since.as_secs_f64());
                if std::mem::take(&mut outcome.failing) {
                    info!(snapshot = %file, instances, "the snapshot is written again");
                }
                Ok(())
            }
            Err(error) => {
                outcome.status.failures += 1;
                metrics.snapshot_failures.increment(1);
                if !std::mem::replace(&mut outcome.failing, true) {
                    warn!(snapshot = %file, %error, "the snapshot cannot be written; it is tried again every 5 s");
                }
                Err(NotSaved)
            }
        }
    }
}

/// Copies what is to be saved, a part at a time, so that heartbeats are answered meanwhile.
async fn collect(registry: &Registry) -> Saved {
    let mut saved = registry.store().saved_frame();
    let mut last = None;
    loop {
        let part = registry.store().save_after(last.as_ref(), AT_ONCE);
        let Some((instances, key)) = part else { return saved };
        saved.instances.extend(instances);
        last = Some(key);
        yield_now().await;
    }
}
