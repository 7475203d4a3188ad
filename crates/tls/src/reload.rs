//! [`Reloaded`], a value made of files that is made again when they change: certificates, tokens. The
//! meaning of the files is left to the caller.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::file::{FileContent, FileError, read_file};
use crate::reload_state::{ReloadOutcome, ReloadState};

/// The largest file that is read, in bytes: several times what all public authorities take.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The shortest time between two checks: a zero must not make the task spin.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// A value made of files, which is made again when their content changes. Cloning is cheap.
///
/// The files are compared by content: copies and links can keep the times of files. New content must
/// be found twice in a row, so that nothing half written is used. If it cannot be used, the old value
/// stays, and one warning has the reason.
///
/// A task checks the files from the first [`Reloaded::get`] within a tokio runtime on. It ends with
/// the last clone. The crate's page has an example.
pub struct Reloaded<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    current: RwLock<Arc<T>>,
    /// `None` if there is no file that could change.
    files: Option<Files<T>>,
    /// Requests to check the files at once.
    check_now: Arc<Notify>,
    task: Mutex<Option<JoinHandle<()>>>,
}

type MakeFn<T> = dyn Fn(&[FileContent]) -> Result<T, String> + Send + Sync;

struct Files<T> {
    /// The files' name in the log: `certificates`.
    kind: &'static str,
    paths: Arc<[PathBuf]>,
    interval: Duration,
    make: Arc<MakeFn<T>>,
    /// The content that the current value was made of, for the task of the next runtime.
    in_use: Mutex<Arc<[FileContent]>>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Makes the value of the files' current content, and again when that changes. `kind` names the
    /// files in the log, such as `certificates`; `interval` is the time between two checks. Without any
    /// file, the value is made once.
    ///
    /// Blocks while it reads.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or `make` fails.
    pub fn load<E, F>(
        kind: &'static str,
        paths: impl IntoIterator<Item = PathBuf>,
        interval: Duration,
        make: F,
    ) -> Result<Self, E>
    where
        E: From<FileError> + fmt::Display,
        F: Fn(&[FileContent]) -> Result<T, E> + Send + Sync + 'static,
    {
        let paths: Arc<[PathBuf]> = paths.into_iter().collect();
        let first: Arc<[FileContent]> = read_all(&paths)?.into();
        let value = make(&first)?;
        let make: Arc<MakeFn<T>> = Arc::new(move |files| make(files).map_err(|error| error.to_string()));
        let interval = interval.max(MIN_INTERVAL);
        let in_use = Mutex::new(first);
        let files = (!paths.is_empty()).then_some(Files { kind, paths, interval, make, in_use });
        Ok(Self::new(value, files))
    }

    /// Creates a value that is made of no file.
    pub fn fixed(value: T) -> Self {
        Self::new(value, None)
    }

    fn new(value: T, files: Option<Files<T>>) -> Self {
        let current = RwLock::new(Arc::new(value));
        let shared = Shared { current, files, check_now: Arc::default(), task: Mutex::new(None) };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the current value.
    pub fn get(&self) -> Arc<T> {
        self.keep_watching();
        self.shared.get()
    }

    /// Requests a check of the files now, which takes their content as complete instead of waiting for a
    /// second check. For signals such as SIGHUP. Returns before the check is made.
    pub fn check_now(&self) {
        self.keep_watching();
        self.shared.check_now.notify_one();
    }

    /// Starts the task that checks the files, unless it runs: one of a runtime that was shut down does not.
    fn keep_watching(&self) {
        let Some(files) = &self.shared.files else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let mut task = self.shared.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            let check_now = Arc::clone(&self.shared.check_now);
            *task = Some(runtime.spawn(watch(Arc::downgrade(&self.shared), check_now, Watch::new(files))));
        }
    }
}

impl<T> Shared<T> {
    fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the current value, which is made of this content.
    fn set(&self, value: T, content: &[FileContent]) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
        if let Some(files) = &self.files {
            *files.in_use.lock().unwrap_or_else(PoisonError::into_inner) = content.into();
        }
    }
}

/// Ends the task that checks the files: it only holds a weak reference, but may sleep for long.
impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.shared.files.as_ref().map(|files| &files.paths);
        f.debug_struct("Reloaded").field("files", &paths).finish_non_exhaustive()
    }
}

/// The state of the task that checks the files.
struct Watch<T> {
    kind: &'static str,
    paths: Arc<[PathBuf]>,
    interval: Duration,
    make: Arc<MakeFn<T>>,
    state: ReloadState<Vec<FileContent>>,
}

impl<T> Watch<T> {
    fn new(files: &Files<T>) -> Self {
        Self {
            kind: files.kind,
            paths: Arc::clone(&files.paths),
            interval: files.interval,
            make: Arc::clone(&files.make),
            state: ReloadState::new(files.in_use.lock().unwrap_or_else(PoisonError::into_inner).to_vec()),
        }
    }

    /// Reads the files once. Returns the new value, if there is one.
    fn check(&mut self, complete: bool) -> Option<T> {
        let found = read_all(&self.paths).map_err(|error| error.to_string());
        let kind = self.kind;
        match self.state.check(found, complete, |files| (self.make)(files)) {
            ReloadOutcome::Changed(value) => {
                info!(files = %Paths(&self.paths), "the new {kind} are used from now on");
                Some(value)
            }
            ReloadOutcome::Rejected(error) => {
                warn!(error, "the new {kind} cannot be used; the old ones stay");
                None
            }
            ReloadOutcome::Unchanged => None,
        }
    }
}

async fn watch<T: Send + Sync + 'static>(
    shared: Weak<Shared<T>>,
    check_now: Arc<Notify>,
    mut watch: Watch<T>,
) {
    while shared.strong_count() > 0 {
        // Both are cancel-safe: a notice that was not taken is there for the next turn.
        let complete = tokio::select! {
            () = sleep(watch.interval) => false,
            () = check_now.notified() => true,
        };
        // Disks can be slow, and the files can be on a network.
        let check = spawn_blocking(move || {
            let new = watch.check(complete);
            (watch, new)
        });
        let new = match check.await {
            Ok((this, new)) => {
                watch = this;
                new
            }
            // It panicked, or the runtime is shut down: the next `get` starts another task.
            Err(_) => return,
        };
        match (new, shared.upgrade()) {
            (Some(value), Some(shared)) => shared.set(value, watch.state.current()),
            (None, Some(_)) => {}
            (_, None) => return,
        }
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<FileContent>, FileError> {
    paths.iter().map(|path| Ok(FileContent::new(path, read_file(path, MAX_BYTES)?))).collect()
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
    use std::fs;
    use std::path::Path;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);

    fn number(path: &Path) -> Result<Reloaded<u32>, FileError> {
        Reloaded::load("numbers", [path.to_owned()], INTERVAL, |files| {
            let text = String::from_utf8_lossy(&files[0].bytes);
            text.trim().parse().map_err(|_| FileError::new(&files[0].path, "has no number in it"))
        })
    }

    #[test]
    fn next_runtime_goes_on_from_the_current_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        fs::write(&path, "1").unwrap();
        let reloaded = number(&path).unwrap();
        // Back to the first content in the end, which the task of the last runtime has not seen.
        for content in ["2", "1", "3", "1"] {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().start_paused(true).build().unwrap().block_on(async {
                fs::write(&path, content).unwrap();
                while reloaded.get().to_string() != content {
                    sleep(INTERVAL).await;
                }
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changed_file_makes_a_new_value_and_broken_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let number = number(&path).unwrap();
        assert_eq!(*number.get(), 1);

        for (content, value) in [("2", 2), ("two", 2), ("3", 3)] {
            fs::write(&path, content).unwrap();
            sleep(3 * INTERVAL).await;
            assert_eq!(*number.get(), value, "{content}");
        }
        fs::remove_file(&path).unwrap();
        sleep(3 * INTERVAL).await;
        assert_eq!(*number.get(), 3);
    }

    #[test]
    fn content_found_once_is_not_used_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let number = number(&path).unwrap();
        let mut watch = Watch::new(number.shared.files.as_ref().unwrap());
        fs::write(&path, "2").unwrap();
        assert_eq!(watch.check(false), None);
        fs::write(&path, "22").unwrap();
        assert_eq!(watch.check(false), None);
        assert_eq!(watch.check(false), Some(22));
        assert_eq!(watch.check(false), None);
    }

    #[tokio::test(start_paused = true)]
    async fn requested_check_takes_the_content_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let number = number(&path).unwrap();
        assert_eq!(*number.get(), 1);
        fs::write(&path, "2").unwrap();
        number.check_now();
        sleep(INTERVAL / 2).await;
        assert_eq!(*number.get(), 2);
    }

    #[test]
    fn unreadable_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("n");
        let text = number(&missing).unwrap_err().to_string();
        assert!(text.starts_with(&format!("the file {} cannot be read: ", missing.display())), "{text}");
        // 4 MiB are read, and are no number.
        fs::write(&missing, vec![b' '; 4 * 1024 * 1024]).unwrap();
        assert!(!number(&missing).unwrap_err().to_string().contains("is larger than"));
        fs::write(&missing, vec![b' '; MAX_BYTES as usize + 1]).unwrap();
        assert!(number(&missing).unwrap_err().to_string().contains("is larger than"));
    }

    #[test]
    fn value_without_files_is_made_once() {
        let value = Reloaded::fixed(7);
        assert_eq!((*value.get(), *value.clone().get()), (7, 7));
        let none = Reloaded::load("numbers", [], INTERVAL, |files| Ok::<_, FileError>(files.len())).unwrap();
        assert_eq!(*none.get(), 0);
        assert!(none.shared.files.is_none());
    }

    #[test]
    fn files_are_named_in_one_line() {
        let paths = ["/a", "/b c", "d"].map(PathBuf::from);
        assert_eq!(Paths(&paths).to_string(), "/a, /b c, d");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let shown = format!("{:?}", number(&path).unwrap());
        assert!(shown.contains(&*path.to_string_lossy()), "{shown}");
    }

    // In paused time, so that the task does not end by itself after the interval; nor before it began.
    #[tokio::test(start_paused = true)]
    async fn task_ends_with_the_last_clone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let number = number(&path).unwrap();
        number.get();
        let task = number.shared.task.lock().unwrap().as_ref().unwrap().abort_handle();
        assert!(!task.is_finished());
        let clone = number.clone();
        drop(number);
        for (last, is_finished) in [(None, false), (Some(clone), true)] {
            drop(last);
            // More often than an aborted task needs to be dropped.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert_eq!(task.is_finished(), is_finished);
        }
    }
}
