//! [`FileDiscovery`], endpoints from a file that is watched.

mod list;
mod watcher;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use farcall_protocol::time::MAX_WAIT;
use farcall_transport::HumanDuration;
use farcall_transport::log::LogThrottle;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

pub(crate) use self::list::read as read_list;
use self::watcher::{AT_REST, FileChange, FileWatcher};
use crate::discovery::{Discovery, Publisher};
use crate::source::publish;

/// Endpoints from a file, which is looked at again every second.
///
/// The file is either plain text, an address a line; what follows a `#` at the beginning of a line or
/// behind white space is a comment:
///
/// ```text
/// # the two in the east
/// tcp@10.0.0.1:7001
/// tcp@10.0.0.2:7001   # since May
/// ```
///
/// or it is a JSON array, of addresses and of objects. Of an object only `address` (or `addr`) must
/// be there; a field with another name than these is a mistake:
///
/// ```json
/// [
///   "tcp@10.0.0.1:7001",
///   {"address": "tcp@10.0.0.2:7001", "weight": 50, "zone": "east", "version": "1.4",
///    "metadata": {"rack": "7"}, "state": "draining"}
/// ]
/// ```
///
/// `weight` is 0 to 65535 and by default 100; 0 drains. `state` is `up`, `draining` or `stale`. Where
/// an address is there twice, the first counts. The name of the file is of no importance.
///
/// **Changing it.** Best write a new file next to it and rename that into place; links are followed, so
/// that a ConfigMap of Kubernetes works as it is. A file that is written in place is taken once it has
/// not changed for 100 ms, or 1 s later.
///
/// **What can go wrong** never takes a list away: a file that is missing (also at first, when it may
/// still come), unreadable, not UTF-8, no list, larger than 16 MiB, of more than 100,000 endpoints. The
/// last list stays, and channels report the reason with the line and the column of the mistake. So
/// does an empty file, since a file that is about to be written is empty for a moment: a list
/// without endpoints is written `[]`.
///
/// ```
/// use std::time::Duration;
///
/// use farcall_discovery::{Discovery, FileDiscovery};
///
/// let source = FileDiscovery::new("/etc/arith/servers").poll_interval(Duration::from_secs(5));
/// assert_eq!(source.describe(), "the file /etc/arith/servers");
/// ```
#[derive(Clone, Debug)]
pub struct FileDiscovery {
    path: PathBuf,
    poll_interval: Duration,
}

/// A poll is a system call; more often than this would only be noise.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// A file system that takes longer is reported, such as one on a network that is gone.
const SLOW: Duration = Duration::from_secs(10);

impl FileDiscovery {
    /// The time between two polls, by default.
    pub const DEFAULT_PAUSE: Duration = Duration::from_secs(1);

    /// Endpoints from the file at this path. It need not be there yet.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), poll_interval: Self::DEFAULT_PAUSE }
    }

    /// Sets the time between two polls of the file; by default [`FileDiscovery::DEFAULT_PAUSE`], at least 10 ms.
    ///
    /// A poll of a file that did not change costs one system call. Too high, and changes arrive late.
    #[must_use]
    pub fn poll_interval(mut self, pause: Duration) -> Self {
        self.poll_interval = pause.clamp(MIN_INTERVAL, MAX_WAIT);
        self
    }
}

impl Discovery for FileDiscovery {
    fn describe(&self) -> String {
        format!("the file {}", self.path.display())
    }

    async fn run(self, publisher: Publisher) {
        let mut report = Report::new(publisher, self.describe());
        let mut watcher = FileWatcher::new(self.path);
        loop {
            let Some((same, change)) = poll(watcher, &mut report).await else { return };
            watcher = same;
            let pause = if matches!(change, FileChange::Unsettled) { AT_REST } else { self.poll_interval };
            report.tell(change).await;
            tokio::select! {
                // Neither loses anything when the other one completes.
                () = report.publisher.closed() => return,
                () = sleep(pause) => {}
            }
        }
    }

    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// Polls the file on a thread for blocking work. `None` if the runtime shuts down.
async fn poll(mut watcher: FileWatcher, report: &mut Report) -> Option<(FileWatcher, FileChange)> {
    // It need not be cancelled: it is one poll, and the next one waits for it.
    let mut polling = spawn_blocking(move || {
        let change = watcher.poll(SystemTime::now());
        (watcher, change)
    });
    loop {
        match timeout(SLOW, &mut polling).await {
            Ok(looked) => return looked.ok(),
            Err(_) => {
                report.failed(format!("the file system has given no answer for {}", HumanDuration(SLOW)));
            }
        }
    }
}

/// Tells channels and the log, once for each change.
struct Report {
    publisher: Publisher,
    place: String,
    /// The error in the file when it was last read.
    error: Option<String>,
    /// The reason why the list cannot be renewed at present, as it was reported.
    failing: Option<String>,
    log: LogThrottle,
}

impl Report {
    fn new(publisher: Publisher, place: String) -> Self {
        Self { publisher, place, error: None, failing: None, log: LogThrottle::new() }
    }

    async fn tell(&mut self, change: FileChange) {
        match change {
            FileChange::Unsettled => return,
            FileChange::List(list) => {
                debug!(place = self.place, endpoints = list.len(), "read");
                self.error = None;
                publish(&self.publisher, list).await;
            }
            FileChange::Error(error) => self.error = Some(error.to_string()),
            FileChange::Same if self.error.is_none() => self.publisher.confirm(),
            FileChange::Same => {}
        }
        if let Some(error) = self.error.clone() {
            self.failed(error);
        } else if self.failing.take().is_some()
            && let Some(line) = self.log.permit()
        {
            info!(place = self.place, suppressed = line.suppressed, "it can be used again");
        }
    }

    fn failed(&mut self, reason: String) {
        // A file that is missing for a week must not wake every channel each second.
        if self.failing.as_ref() != Some(&reason) {
            if let Some(line) = self.log.permit() {
                let suppressed = line.suppressed;
                warn!(place = self.place, reason, suppressed, "it can't be used; the last list is kept");
            }
            self.publisher.failed(format!("{}: {reason}", self.place));
            self.failing = Some(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use farcall_tls::FileError;
    use tempfile::TempDir;

    use super::watcher::FileErrorKind;
    use super::*;
    use crate::discovery::{EndpointList, Subscription, publisher};

    /// A file that is watched, in time that does not pass by itself. Files are dated by the real
    /// clock, so that they look young; a young file is taken after ten looks.
    struct Fixture {
        dir: TempDir,
        subscription: Subscription,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            let (publisher, subscription) = publisher();
            tokio::spawn(FileDiscovery::new(dir.path().join("list")).run(publisher));
            Self { dir, subscription }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("list")
        }

        fn replace(&self, content: &str) {
            let new = self.dir.path().join("new");
            fs::write(&new, content).unwrap();
            fs::rename(new, self.path()).unwrap();
        }

        async fn until(&mut self, right: impl FnMut(&EndpointList) -> bool) -> EndpointList {
            self.subscription.wait_for(right).await.unwrap().clone()
        }

        async fn until_len(&mut self, len: usize) {
            let right = |found: &EndpointList| {
                found.confirmed.is_some() && found.endpoints.len() == len && found.failing.is_none()
            };
            self.until(right).await;
        }

        async fn until_failing(&mut self, with: &str) -> EndpointList {
            self.until(|found| found.failing.as_ref().is_some_and(|failing| failing.reason.contains(with)))
                .await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_follows_the_file() {
        let mut file = Fixture::new();
        let failing = file.until_failing("No such file").await;
        assert!(failing.confirmed.is_none(), "it has never been there");
        let reason = failing.failing.unwrap().reason;
        assert!(
            reason.starts_with(&format!("the file {}: it cannot be read", file.path().display())),
            "{reason}"
        );

        file.replace("10.0.0.1:7001\n10.0.0.2:7001");
        file.until_len(2).await;
        file.replace(r#"["10.0.0.3:7001"]"#);
        file.until_len(1).await;
        fs::write(file.path(), "10.0.0.1:7001\n10.0.0.2:7001\n10.0.0.3:7001\n").unwrap();
        file.until_len(3).await;
        file.replace("[]");
        file.until_len(0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn bad_file_keeps_the_last_list() {
        let mut file = Fixture::new();
        file.replace(r#"["10.0.0.1:7001", "10.0.0.2:7001"]"#);
        file.until_len(2).await;

        for (content, reason) in [
            ("[\n\"10.0.0.1:7001\",", "line 2 column"),
            ("", "there is no address in it"),
            ("10.0.0.1:7001\n:7001", "line 2, column 1: "),
        ] {
            file.replace(content);
            let found = file.until_failing(reason).await;
            assert_eq!(found.endpoints.len(), 2, "{content:?}");
        }
        fs::write(file.path(), b"\xff").unwrap();
        assert_eq!(file.until_failing("UTF-8").await.endpoints.len(), 2);
        fs::remove_file(file.path()).unwrap();
        assert_eq!(file.until_failing("No such file").await.endpoints.len(), 2);

        file.replace("10.0.0.1:7001");
        file.until_len(1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn unchanged_file_is_confirmed_without_waking_subscribers() {
        let mut file = Fixture::new();
        file.replace("10.0.0.1:7001");
        file.until_len(1).await;
        let first = file.subscription.borrow_and_update().confirmed.unwrap();
        let waking = timeout(Duration::from_secs(60), file.subscription.changed()).await;
        assert!(waking.is_err(), "{:?}", file.subscription.borrow());
        let last = file.subscription.borrow().confirmed.unwrap();
        assert!(last - first > Duration::from_secs(50), "{:?}", last - first);
    }

    #[tokio::test(start_paused = true)]
    async fn missing_file_wakes_subscribers_once() {
        let mut file = Fixture::new();
        file.until_failing("No such file").await;
        file.subscription.borrow_and_update();
        assert!(timeout(Duration::from_secs(60), file.subscription.changed()).await.is_err());
        assert!(file.subscription.borrow().failing.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn polling_ends_with_the_subscription() {
        let (publisher, subscription) = publisher();
        let running =
            tokio::spawn(FileDiscovery::new("/nowhere").poll_interval(Duration::ZERO).run(publisher));
        sleep(Duration::from_secs(1)).await;
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        assert!(subscription.has_changed().is_err(), "its publisher is gone with it");
    }

    #[tokio::test]
    async fn file_system_that_answers_again_clears_the_failure() {
        let (publisher, subscription) = publisher();
        let failing = || subscription.borrow().failing.as_ref().map(|failing| failing.reason.to_string());
        let mut report = Report::new(publisher, "the file".to_owned());
        report.tell(FileChange::List(Vec::new())).await;
        report.failed("slow".to_owned());
        assert_eq!(failing().as_deref(), Some("the file: slow"));
        report.tell(FileChange::Unsettled).await;
        assert!(failing().is_some(), "nothing is known yet");
        report.tell(FileChange::Same).await;
        assert_eq!(failing(), None);

        report
            .tell(FileChange::Error(FileErrorKind::File(FileError::new("list", "is not a regular file"))))
            .await;
        report.failed("slow".to_owned());
        report.tell(FileChange::Same).await;
        assert_eq!(failing().as_deref(), Some("the file: it is not a regular file"));
    }
}
