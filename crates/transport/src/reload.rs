//! [`Reloaded`], a value made of files that is made anew when they change: certificates, tokens.
//!
//! What the files mean is for those who make the value of them.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tracing::{info, warn};

/// The largest file that is read, in bytes: several times what all public authorities take.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A value made of files, which is made anew when they say something else. Cloning is cheap.
///
/// The files are compared by what they say: times of files can be kept by copies and by links.
/// What is new must be found twice in a row, so that nothing half written is taken. Where it
/// cannot be used, the old value stays, and one warning says why.
///
/// A task looks at the files from the first [`Reloaded::get`] within a tokio runtime on. It ends
/// with the last clone.
pub struct Reloaded<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    current: RwLock<Arc<T>>,
    /// None where there is no file that could change.
    files: Option<Files<T>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What one file says.
#[derive(Clone, PartialEq, Eq)]
pub struct FileContent {
    /// Where it is.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// A file that cannot be read. The text names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file {} {what}", path.display())]
#[non_exhaustive]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, as the rest of a sentence.
    pub what: String,
}

impl FileError {
    /// Something wrong with a file, as the rest of a sentence, such as `has no token in it`.
    pub fn new(path: impl Into<PathBuf>, what: impl Into<String>) -> FileError {
        FileError { path: path.into(), what: what.into() }
    }
}

type Make<T> = dyn Fn(&[FileContent]) -> Result<T, String> + Send + Sync;

struct Files<T> {
    /// What they are, for the log: `certificates`.
    kind: &'static str,
    paths: Arc<[PathBuf]>,
    every: Duration,
    make: Arc<Make<T>>,
    /// What the first value was made of.
    first: Arc<[FileContent]>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Makes the value of what the files say now, and again when that changes. `kind` says in the
    /// log what they are, such as `certificates`; `every` is how often they are looked at. Without
    /// any file, the value is made once.
    ///
    /// Blocks while it reads.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or `make` cannot make a value of what they say.
    pub fn load<E, F>(
        kind: &'static str,
        paths: impl IntoIterator<Item = PathBuf>,
        every: Duration,
        make: F,
    ) -> Result<Reloaded<T>, E>
    where
        E: From<FileError> + fmt::Display,
        F: Fn(&[FileContent]) -> Result<T, E> + Send + Sync + 'static,
    {
        let paths: Arc<[PathBuf]> = paths.into_iter().collect();
        let first: Arc<[FileContent]> = read_all(&paths)?.into();
        let value = make(&first)?;
        let make: Arc<Make<T>> = Arc::new(move |files| make(files).map_err(|error| error.to_string()));
        let every = every.max(Duration::from_millis(1));
        let files = (!paths.is_empty()).then_some(Files { kind, paths, every, make, first });
        let shared = Shared { current: RwLock::new(Arc::new(value)), files, task: Mutex::new(None) };
        Ok(Reloaded { shared: Arc::new(shared) })
    }

    /// A value that is made of no file.
    pub fn fixed(value: T) -> Reloaded<T> {
        let current = RwLock::new(Arc::new(value));
        Reloaded { shared: Arc::new(Shared { current, files: None, task: Mutex::new(None) }) }
    }

    /// The value of this moment.
    pub fn get(&self) -> Arc<T> {
        self.keep_watching();
        self.shared.get()
    }

    /// Sees to it that a task looks at the files: one of a runtime that was shut down does not.
    fn keep_watching(&self) {
        let Some(files) = &self.shared.files else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let mut task = self.shared.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(runtime.spawn(watch(Arc::downgrade(&self.shared), Watch::new(files))));
        }
    }
}

impl<T> Shared<T> {
    fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, value: T) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// Ends the task that looks at the files: it only holds a weak reference, but may sleep for long.
impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Reloaded<T> {
        Reloaded { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.shared.files.as_ref().map(|files| &files.paths);
        f.debug_struct("Reloading").field("files", &paths).finish_non_exhaustive()
    }
}

/// Never shows what a file says: it may be a key.
impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileContent({}, {} bytes)", self.path.display(), self.bytes.len())
    }
}

/// What one look at the files finds; an error is its text.
type Found = Result<Vec<FileContent>, String>;

/// What a task knows of the files that it looks at.
struct Watch<T> {
    kind: &'static str,
    paths: Arc<[PathBuf]>,
    every: Duration,
    make: Arc<Make<T>>,
    /// What the current value was made of.
    good: Vec<FileContent>,
    /// What was found last, where that is something else.
    other: Option<Found>,
    /// Whether that was found to be of no use, and said so.
    refused: bool,
}

impl<T> Watch<T> {
    fn new(files: &Files<T>) -> Watch<T> {
        Watch {
            kind: files.kind,
            paths: Arc::clone(&files.paths),
            every: files.every,
            make: Arc::clone(&files.make),
            good: files.first.to_vec(),
            other: None,
            refused: false,
        }
    }

    /// Looks once. Some where there is a new value.
    fn look(&mut self) -> Option<T> {
        let found: Found = read_all(&self.paths).map_err(|error| error.to_string());
        if found.as_ref() == Ok(&self.good) {
            self.other = None;
            return None;
        }
        if self.other.as_ref() != Some(&found) {
            // It may be half written, or one of a pair: what it is at the next look counts.
            self.other = Some(found);
            self.refused = false;
            return None;
        }
        if self.refused {
            return None;
        }
        let kind = self.kind;
        match found.and_then(|files| Ok(((self.make)(&files)?, files))) {
            Ok((value, files)) => {
                self.good = files;
                self.other = None;
                info!(files = %Paths(&self.paths), "the new {kind} hold from now on");
                Some(value)
            }
            Err(error) => {
                self.refused = true;
                warn!(error, "the new {kind} cannot be used, and the old ones stay");
                None
            }
        }
    }
}

async fn watch<T: Send + Sync + 'static>(shared: Weak<Shared<T>>, mut watch: Watch<T>) {
    while shared.strong_count() > 0 {
        sleep(watch.every).await;
        // Disks can be slow, and the files can be on somebody else's.
        let look = spawn_blocking(move || {
            let new = watch.look();
            (watch, new)
        });
        let new = match look.await {
            Ok((this, new)) => {
                watch = this;
                new
            }
            // It panicked, or the runtime is shut down: the next `get` begins again.
            Err(_) => return,
        };
        match (new, shared.upgrade()) {
            (Some(value), Some(shared)) => shared.set(value),
            (None, Some(_)) => {}
            (_, None) => return,
        }
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<FileContent>, FileError> {
    paths.iter().map(|path| Ok(FileContent { path: path.clone(), bytes: read(path)? })).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |error| FileError::new(path, format!("cannot be read: {error}"));
    // Opening a named pipe would wait for somebody to write to it.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(FileError::new(path, "cannot be read: it is no regular file"));
    }
    let mut bytes = Vec::new();
    // A byte more than allowed tells that it is too much, however large it has grown since.
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileError::new(
            path,
            format!("is larger than {MAX_BYTES} bytes, the most that are read"),
        ));
    }
    Ok(bytes)
}

/// Paths in one line.
struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(2);

    fn number(path: &Path) -> Result<Reloaded<u32>, FileError> {
        Reloaded::load("numbers", [path.to_owned()], EVERY, |files| {
            let text = String::from_utf8_lossy(&files[0].bytes);
            text.trim().parse().map_err(|_| FileError::new(&files[0].path, "has no number in it"))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_makes_a_new_value_and_a_broken_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let number = number(&path).unwrap();
        assert_eq!(*number.get(), 1);

        for (content, value) in [("2", 2), ("two", 2), ("3", 3)] {
            fs::write(&path, content).unwrap();
            sleep(3 * EVERY).await;
            assert_eq!(*number.get(), value, "{content}");
        }
        fs::remove_file(&path).unwrap();
        sleep(3 * EVERY).await;
        assert_eq!(*number.get(), 3);
    }

    #[test]
    fn what_is_found_once_is_not_taken_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let number = number(&path).unwrap();
        let mut watch = Watch::new(number.shared.files.as_ref().unwrap());
        fs::write(&path, "2").unwrap();
        assert_eq!(watch.look(), None);
        fs::write(&path, "22").unwrap();
        assert_eq!(watch.look(), None);
        assert_eq!(watch.look(), Some(22));
        assert_eq!(watch.look(), None);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("n");
        let text = number(&missing).unwrap_err().to_string();
        assert!(text.starts_with(&format!("the file {} cannot be read: ", missing.display())), "{text}");
        let text = number(folder.path()).unwrap_err().to_string();
        assert!(text.ends_with("it is no regular file"), "{text}");
        fs::write(&missing, vec![b' '; MAX_BYTES as usize + 1]).unwrap();
        assert!(number(&missing).unwrap_err().to_string().contains("is larger than"));
    }

    #[tokio::test]
    async fn the_task_ends_with_the_last_clone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let number = number(&path).unwrap();
        number.get();
        let task = number.shared.task.lock().unwrap().as_ref().unwrap().abort_handle();
        assert!(!task.is_finished());
        drop(number);
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}
