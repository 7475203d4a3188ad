//! [`FileWatcher`]: finds out if the file has changed, and reads it then.
//!
//! It blocks, and has no clock; polling it is left to [`super::FileDiscovery`].

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use farcall_tls::{FileError, read_file};

use super::list::{self, ListError};
use crate::endpoint::Endpoint;

/// The largest file that is read, in bytes.
pub(super) const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A file younger than this may still be being written.
pub(super) const AT_REST: Duration = Duration::from_millis(100);

/// The number of polls in a row at which a file may be too young, before it is read as it is: its
/// clock may be wrong, or another program may touch it all the time.
const MAX_WAITS: u32 = 10;

/// File systems count modification times in steps of up to 2 s (FAT). Younger than that, a file may
/// be changed again and keep its stamp.
const STAMP_TRUSTED_AFTER: Duration = Duration::from_secs(3);

/// The file, and its identity when it was read.
#[derive(Debug)]
pub(super) struct FileWatcher {
    path: PathBuf,
    /// The stamp of what was read; `None` if the file may change without another stamp.
    stamp: Option<Stamp>,
    waits: u32,
}

/// The outcome of one poll.
#[derive(Debug)]
pub(super) enum FileChange {
    /// A list that was read.
    List(Vec<Endpoint>),
    /// Nothing changed since it was read, well or badly.
    Same,
    /// The file may be being written: poll again after [`AT_REST`].
    Unsettled,
    /// The file cannot be read, or is not a list.
    Error(FileErrorKind),
}

/// The reason why there is no list. The text does not name the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileErrorKind {
    #[error("it {}", .0.reason())]
    File(FileError),
    #[error(transparent)]
    List(#[from] ListError),
}

impl From<FileError> for FileErrorKind {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// The attributes that change when a file is replaced or written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// The same for the change of status: a modification time can be set back, this cannot.
    changed: (i64, i64),
}

impl FileWatcher {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, stamp: None, waits: 0 }
    }

    /// Checks the file once; `now` is the time of the clock that files are dated by.
    pub(super) fn poll(&mut self, now: SystemTime) -> FileChange {
        self.try_poll(now).unwrap_or_else(FileChange::Error)
    }

    fn try_poll(&mut self, now: SystemTime) -> Result<FileChange, FileErrorKind> {
        let last = self.stamp.take();
        // Follows links, so that a link which points elsewhere is another file.
        let found = match fs::metadata(&self.path) {
            Ok(found) if found.is_file() => found,
            // Reading it fails with the reason, unless it has just come back.
            _ => return self.read(),
        };
        let stamp = Stamp::of(&found);
        if last.as_ref() == Some(&stamp) {
            self.stamp = last;
            return Ok(FileChange::Same);
        }
        // `None` if the file is dated in the future.
        let age = found.modified().ok().and_then(|modified| now.duration_since(modified).ok());
        if age.is_some_and(|age| age < AT_REST) && self.waits < MAX_WAITS {
            self.waits += 1;
            return Ok(FileChange::Unsettled);
        }
        self.waits = 0;
        // The stamp is older than what is read: what is written in between is seen by the next poll.
        self.stamp = age.filter(|age| *age >= STAMP_TRUSTED_AFTER).map(|_| stamp);
        self.read()
    }

    fn read(&self) -> Result<FileChange, FileErrorKind> {
        let content = read_file(&self.path, MAX_BYTES)?;
        Ok(FileChange::List(list::read(&content)?))
    }
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use tempfile::TempDir;

    use super::*;

    /// A file, and a moment at which it has long been at rest.
    struct Shelf {
        dir: TempDir,
        watcher: FileWatcher,
        now: SystemTime,
    }

    impl Shelf {
        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            let watcher = FileWatcher::new(dir.path().join("list"));
            Self { dir, watcher, now: SystemTime::now() + Duration::from_secs(3600) }
        }

        fn write(&self, content: impl AsRef<[u8]>) {
            fs::write(&self.watcher.path, content).unwrap();
        }

        fn poll(&mut self) -> FileChange {
            self.watcher.poll(self.now)
        }

        /// Returns the number of endpoints that the file has now.
        fn len(&mut self) -> usize {
            match self.poll() {
                FileChange::List(list) => list.len(),
                other => panic!("{other:?}"),
            }
        }

        fn error(&mut self) -> String {
            match self.poll() {
                FileChange::Error(error) => error.to_string(),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn file_at_rest_is_read_once() {
        let mut shelf = Shelf::new();
        shelf.write("a:1");
        assert_eq!(shelf.len(), 1);
        assert!(matches!(shelf.poll(), FileChange::Same));
        shelf.write("a:1\nb:1");
        assert_eq!(shelf.len(), 2);
        shelf.write("nowhere");
        assert!(shelf.error().contains("line 1, column 1"));
        assert!(matches!(shelf.poll(), FileChange::Same), "a bad list is not read over and over");
    }

    #[test]
    fn replaced_file_of_the_same_size_and_time_is_read() {
        let mut shelf = Shelf::new();
        shelf.write("a:1");
        assert_eq!(shelf.len(), 1);
        let modified = fs::metadata(&shelf.watcher.path).unwrap().modified().unwrap();
        let other = shelf.dir.path().join("other");
        fs::write(&other, "b:1").unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(modified).unwrap();
        fs::rename(&other, &shelf.watcher.path).unwrap();
        assert_eq!(shelf.len(), 1);
    }

    #[test]
    fn young_file_is_read_again_with_the_same_stamp() {
        let mut shelf = Shelf::new();
        shelf.write("a:1");
        let modified = fs::metadata(&shelf.watcher.path).unwrap().modified().unwrap();
        shelf.now = modified + Duration::from_secs(1);
        assert_eq!(shelf.len(), 1);
        assert_eq!(shelf.len(), 1, "it might have been changed within the second");
        shelf.now = modified + STAMP_TRUSTED_AFTER;
        assert_eq!(shelf.len(), 1);
        assert!(matches!(shelf.poll(), FileChange::Same));
    }

    #[test]
    fn file_being_written_is_read_after_the_last_wait() {
        let mut shelf = Shelf::new();
        shelf.write("a:1");
        let modified = fs::metadata(&shelf.watcher.path).unwrap().modified().unwrap();
        shelf.now = modified + AT_REST / 2;
        for _ in 0..MAX_WAITS {
            assert!(matches!(shelf.poll(), FileChange::Unsettled));
        }
        assert_eq!(shelf.len(), 1);
        assert!(matches!(shelf.poll(), FileChange::Unsettled), "the next change is waited for again");
    }

    #[test]
    fn file_dated_in_the_future_is_read() {
        let mut shelf = Shelf::new();
        shelf.write("a:1");
        shelf.now = SystemTime::UNIX_EPOCH;
        assert_eq!(shelf.len(), 1);
    }

    #[test]
    fn link_is_followed_to_its_current_target() {
        // As Kubernetes shows a ConfigMap: list -> ..data/list, ..data -> a folder for each version.
        let mut shelf = Shelf::new();
        let path = |name: &str| shelf.dir.path().join(name);
        for (version, content) in [("v1", "a:1"), ("v2", "a:1\nb:1")] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("list"), content).unwrap();
        }
        std::os::unix::fs::symlink("v1", path("..data")).unwrap();
        std::os::unix::fs::symlink("..data/list", path("list")).unwrap();
        std::os::unix::fs::symlink("v2", path("..tmp")).unwrap();
        let (new, link) = (path("..tmp"), path("..data"));
        assert_eq!(shelf.len(), 1);
        fs::rename(new, link).unwrap();
        assert_eq!(shelf.len(), 2);
    }

    #[test]
    fn file_that_comes_back_unchanged_is_read() {
        let mut shelf = Shelf::new();
        assert!(shelf.error().contains("No such file"));
        // Behind a link, which comes and goes and leaves the stamp of the file as it is.
        let aside = shelf.dir.path().join("aside");
        fs::write(&aside, "a:1").unwrap();
        for _ in 0..2 {
            std::os::unix::fs::symlink(&aside, &shelf.watcher.path).unwrap();
            assert_eq!(shelf.len(), 1);
            fs::remove_file(&shelf.watcher.path).unwrap();
            assert!(shelf.error().contains("No such file"));
        }
    }

    #[test]
    fn directories_and_too_large_files_are_refused() {
        let mut shelf = Shelf::new();
        fs::create_dir(&shelf.watcher.path).unwrap();
        assert_eq!(shelf.error(), "it is not a regular file");
        fs::remove_dir(&shelf.watcher.path).unwrap();

        // A hole costs no room on the disk.
        let file = File::create(&shelf.watcher.path).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(shelf.error(), "it is larger than 16777216 bytes, the maximum");
        file.set_len(MAX_BYTES).unwrap();
        assert!(shelf.error().starts_with("line 1, column 1: "), "zero bytes are no address");
    }
}
