//! [`SnapshotLock`]: keeps a second registry from the snapshot that one uses.
//!
//! The snapshot itself is locked. It is replaced at each write, so each new file is locked before it takes the name.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::error::OpenError;

/// The time that a registry which is stopping has to release its lock.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The lock of the file that has the snapshot's name now; none as long as there is no file. It ends when this is dropped,
/// or with the process, however that ends.
#[derive(Debug, Default)]
pub(super) struct SnapshotLock(Option<File>);

impl SnapshotLock {
    /// Locks the snapshot, waiting a moment for a registry that is about to release it.
    pub(super) async fn acquire(snapshot: &Path) -> Result<Self, OpenError> {
        let refuse = |error| OpenError::Snapshot { path: snapshot.to_owned(), error };
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        loop {
            let path = snapshot.to_owned();
            let locked = spawn_blocking(move || lock_current(&path)).await;
            match locked.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(lock) => return Ok(lock),
                Err(error) if error.kind() != io::ErrorKind::ResourceBusy => return Err(refuse(error)),
                Err(_) if Instant::now() >= deadline => {
                    return Err(OpenError::SnapshotInUse { path: snapshot.to_owned() });
                }
                Err(_) => sleep(RETRY_INTERVAL).await,
            }
        }
    }

    /// Locks a file that will take the snapshot's name.
    pub(super) fn of_new(file: &File) -> io::Result<Self> {
        try_lock(file)?;
        file.try_clone().map(|file| Self(Some(file)))
    }

    /// Checks that no other registry has locked the file that has the snapshot's name now.
    pub(super) fn check_owned(&self, snapshot: &Path) -> io::Result<()> {
        match File::open(snapshot) {
            Ok(current) if self.is_of(&current)? => Ok(()),
            Ok(current) => try_lock(&current),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn is_of(&self, file: &File) -> io::Result<bool> {
        match &self.0 {
            Some(locked) => same_file(locked, file),
            None => Ok(false),
        }
    }
}

/// Locks the file that has the name now.
fn lock_current(path: &Path) -> io::Result<SnapshotLock> {
    let locked = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SnapshotLock::default()),
        Err(error) => return Err(error),
    };
    match try_lock(&locked) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            warn!(
                snapshot = %path.display(), %error,
                "this file system has no locks: a second registry with this snapshot is not noticed"
            );
            return Ok(SnapshotLock::default());
        }
        outcome => outcome?,
    }
    // Another registry may have given the name to a new file, and released this one, in between.
    match File::open(path) {
        Ok(current) if same_file(&locked, &current)? => Ok(SnapshotLock(Some(locked))),
        _ => Err(in_use()),
    }
}

/// Locks a file until it is closed; fails with `ResourceBusy` if another registry has locked it.
fn try_lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(in_use()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "another registry uses it")
}

fn same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::snapshot_file;
    use crate::server::store::SavedStore;

    fn write(snapshot: &Path, lock: &mut SnapshotLock) -> io::Result<()> {
        let (sender, mut parts) = tokio::sync::mpsc::channel(1);
        sender.try_send(snapshot_file::Part::End).unwrap();
        let mut replace =
            || snapshot_file::replace(snapshot, &SavedStore::default(), &mut parts, lock).map(drop);
        // It waits for parts, as a runtime's thread must not.
        std::thread::scope(|scope| scope.spawn(&mut replace).join().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn second_registry_is_refused_until_the_first_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = folder.path().join("registry.json");
        let mut first = SnapshotLock::acquire(&snapshot).await.unwrap();
        // The lock follows the name from file to file.
        for _ in 0..3 {
            write(&snapshot, &mut first).unwrap();
            let error = SnapshotLock::acquire(&snapshot).await.unwrap_err();
            assert!(matches!(&error, OpenError::SnapshotInUse { path } if *path == snapshot), "{error}");
        }
        drop(first);
        let mut second = SnapshotLock::acquire(&snapshot).await.unwrap();
        write(&snapshot, &mut second).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_start_without_a_snapshot_one_writes() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = folder.path().join("registry.json");
        let mut first = SnapshotLock::acquire(&snapshot).await.unwrap();
        let mut second = SnapshotLock::acquire(&snapshot).await.unwrap();
        write(&snapshot, &mut first).unwrap();
        let error = write(&snapshot, &mut second).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        write(&snapshot, &mut first).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn lock_that_is_released_soon_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = folder.path().join("registry.json");
        let mut first = SnapshotLock::default();
        write(&snapshot, &mut first).unwrap();
        let released = async {
            sleep(RELEASE_TIMEOUT / 2).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(SnapshotLock::acquire(&snapshot), released);
        second.unwrap();
    }

    #[test]
    fn snapshot_that_an_operator_has_replaced_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = folder.path().join("registry.json");
        let mut lock = SnapshotLock::default();
        write(&snapshot, &mut lock).unwrap();
        std::fs::remove_file(&snapshot).unwrap();
        write(&snapshot, &mut lock).unwrap();
        std::fs::remove_file(&snapshot).unwrap();
        std::fs::write(&snapshot, "{}").unwrap();
        write(&snapshot, &mut lock).unwrap();
    }
}
