//! One look at the file: whether it has changed, and what it says then.
//!
//! It blocks, and knows no clock; [`super::FileDiscovery`] looks again and again.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::list::{self, ListFault};
use crate::endpoint::Endpoint;

/// The largest file that is read, in bytes.
pub(super) const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A file younger than this may still be being written.
pub(super) const AT_REST: Duration = Duration::from_millis(100);

/// How often in a row a file may be too young, before it is read as it is: its clock may be wrong,
/// or somebody touches it all the time.
const MOST_WAITS: u32 = 10;

/// File systems count modification times in steps of up to 2 s (FAT). Younger than that, a file may
/// be changed again and keep its stamp.
const STAMP_TRUSTED_AFTER: Duration = Duration::from_secs(3);

/// The file, and what was seen of it.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    /// What it was when it was read, if that is enough to know it again.
    stamp: Option<Stamp>,
    waits: u32,
}

/// What one look finds.
#[derive(Debug)]
pub(super) enum Sight {
    /// It was read.
    List(Vec<Endpoint>),
    /// Nothing changed since it was read, well or badly.
    Same,
    /// It is perhaps being written: look again after [`AT_REST`].
    Unsettled,
    /// It can't be read, or is no list.
    Fault(FileFault),
}

/// Why there is no list. What it is about, the file, is left for the caller to say.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileFault {
    #[error("it can't be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it is no regular file")]
    NotRegular,
    #[error("it is larger than {MAX_BYTES} bytes, the most that are read")]
    TooLarge,
    #[error(transparent)]
    List(#[from] ListFault),
}

/// What tells that a file is another, or was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// The same of the change of status: a modification time can be set back, this can't.
    changed: (i64, i64),
}

impl Watched {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, stamp: None, waits: 0 }
    }

    /// Looks at the file; `now` is the time of the clock that files are dated by.
    pub(super) fn look(&mut self, now: SystemTime) -> Sight {
        self.look_closely(now).unwrap_or_else(Sight::Fault)
    }

    fn look_closely(&mut self, now: SystemTime) -> Result<Sight, FileFault> {
        let last = self.stamp.take();
        // Follows links, so that a link which points elsewhere is another file.
        let found = fs::metadata(&self.path)?;
        if !found.is_file() {
            // Opening a named pipe would wait for somebody to write to it.
            return Err(FileFault::NotRegular);
        }
        let stamp = Stamp::of(&found);
        if last.as_ref() == Some(&stamp) {
            self.stamp = last;
            return Ok(Sight::Same);
        }
        // None where the file is dated in the future.
        let age = found.modified().ok().and_then(|modified| now.duration_since(modified).ok());
        if age.is_some_and(|age| age < AT_REST) && self.waits < MOST_WAITS {
            self.waits += 1;
            return Ok(Sight::Unsettled);
        }
        self.waits = 0;
        // The stamp is older than what is read: what is written in between is seen at the next look.
        self.stamp = age.filter(|age| *age >= STAMP_TRUSTED_AFTER).map(|_| stamp);
        let content = self.read()?;
        Ok(Sight::List(list::read(&content)?))
    }

    fn read(&self) -> Result<Vec<u8>, FileFault> {
        let mut content = Vec::new();
        // A byte more than allowed tells that it is too much, however large it has grown since.
        File::open(&self.path)?.take(MAX_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_BYTES { Err(FileFault::TooLarge) } else { Ok(content) }
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
    use tempfile::TempDir;

    use super::*;

    /// A file, and a moment at which it has long been at rest.
    struct Shelf {
        dir: TempDir,
        watched: Watched,
        now: SystemTime,
    }

    impl Shelf {
        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            let watched = Watched::new(dir.path().join("list"));
            Self { dir, watched, now: SystemTime::now() + Duration::from_secs(3600) }
        }

        fn write(&self, content: impl AsRef<[u8]>) {
            fs::write(&self.watched.path, content).unwrap();
        }

        fn look(&mut self) -> Sight {
            self.watched.look(self.now)
        }

        /// How many endpoints the file has now.
        fn len(&mut self) -> usize {
            match self.look() {
                Sight::List(list) => list.len(),
                other => panic!("{other:?}"),
            }
        }

        fn fault(&mut self) -> String {
            match self.look() {
                Sight::Fault(fault) => fault.to_string(),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_file_at_rest_is_read_once() {
        let mut shelf = Shelf::new();
        shelf.write("a:1");
        assert_eq!(shelf.len(), 1);
        assert!(matches!(shelf.look(), Sight::Same));
        shelf.write("a:1\nb:1");
        assert_eq!(shelf.len(), 2);
        shelf.write("nowhere");
        assert!(shelf.fault().contains("line 1, column 1"));
        assert!(matches!(shelf.look(), Sight::Same), "a bad list is not read over and over");
    }

    #[test]
    fn a_file_of_the_same_size_and_time_is_another_when_renamed_into_place() {
        let mut shelf = Shelf::new();
        shelf.write("a:1");
        assert_eq!(shelf.len(), 1);
        let modified = fs::metadata(&shelf.watched.path).unwrap().modified().unwrap();
        let other = shelf.dir.path().join("other");
        fs::write(&other, "b:1").unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(modified).unwrap();
        fs::rename(&other, &shelf.watched.path).unwrap();
        assert_eq!(shelf.len(), 1);
    }

    #[test]
    fn a_young_file_is_read_again_whatever_its_stamp() {
        let mut shelf = Shelf::new();
        shelf.write("a:1");
        let modified = fs::metadata(&shelf.watched.path).unwrap().modified().unwrap();
        shelf.now = modified + Duration::from_secs(1);
        assert_eq!(shelf.len(), 1);
        assert_eq!(shelf.len(), 1, "it might have been changed within the second");
        shelf.now = modified + STAMP_TRUSTED_AFTER;
        assert_eq!(shelf.len(), 1);
        assert!(matches!(shelf.look(), Sight::Same));
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for_but_not_for_ever() {
        let mut shelf = Shelf::new();
        shelf.write("a:1");
        let modified = fs::metadata(&shelf.watched.path).unwrap().modified().unwrap();
        shelf.now = modified + AT_REST / 2;
        for _ in 0..MOST_WAITS {
            assert!(matches!(shelf.look(), Sight::Unsettled));
        }
        assert_eq!(shelf.len(), 1);
        assert!(matches!(shelf.look(), Sight::Unsettled), "the next change is waited for again");
    }

    #[test]
    fn a_file_from_the_future_is_read() {
        let mut shelf = Shelf::new();
        shelf.write("a:1");
        shelf.now = SystemTime::UNIX_EPOCH;
        assert_eq!(shelf.len(), 1);
    }

    #[test]
    fn a_link_is_followed_to_where_it_points_now() {
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
    fn a_file_that_comes_back_is_read_though_it_is_the_same() {
        let mut shelf = Shelf::new();
        assert!(shelf.fault().contains("No such file"));
        // Behind a link, which comes and goes and leaves the stamp of the file as it is.
        let aside = shelf.dir.path().join("aside");
        fs::write(&aside, "a:1").unwrap();
        for _ in 0..2 {
            std::os::unix::fs::symlink(&aside, &shelf.watched.path).unwrap();
            assert_eq!(shelf.len(), 1);
            fs::remove_file(&shelf.watched.path).unwrap();
            assert!(shelf.fault().contains("No such file"));
        }
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused() {
        let mut shelf = Shelf::new();
        fs::create_dir(&shelf.watched.path).unwrap();
        assert_eq!(shelf.fault(), "it is no regular file");
        fs::remove_dir(&shelf.watched.path).unwrap();

        // A hole costs no room on the disk.
        let file = File::create(&shelf.watched.path).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(shelf.fault(), "it is larger than 16777216 bytes, the most that are read");
        file.set_len(MAX_BYTES).unwrap();
        assert!(shelf.fault().starts_with("line 1, column 1: "), "zero bytes are no address");
    }
}
