//! [`OnceOptions`]: the settings of calls of methods that are declared `once`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::memory_store::MemoryDedupStore;
use super::store::DedupStore;

/// The number of calls that run, or wait for another server, at the same time by default.
const DEFAULT_MAX_RUNNING: usize = 4096;
/// The default limit of the memory of keys and answers, in bytes.
const DEFAULT_MAX_BYTES: usize = 64 * 1024 * 1024;
/// The default limit of one answer, in bytes.
const DEFAULT_MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// The time for which an answer is kept by default. A client repeats a call for up to two minutes, and an answer that is
/// gone too early is a call that is carried out twice.
const DEFAULT_RETENTION: Duration = Duration::from_secs(10 * 60);

/// The settings of calls of methods that are declared `once`: how many, how long and where; see [`ServerBuilder::once_options`](crate::ServerBuilder::once_options).
///
/// ```
/// use std::time::Duration;
///
/// use farcall_server::{OnceOptions, Server};
///
/// let options = OnceOptions::default().max_bytes(256 << 20).retention(Duration::from_secs(3600));
/// let builder = Server::builder().once_options(options);
/// # let _ = builder;
/// ```
#[derive(Clone)]
#[must_use]
pub struct OnceOptions {
    pub(super) max_running: usize,
    pub(super) max_bytes: usize,
    pub(super) max_answer_bytes: usize,
    pub(super) retention: Duration,
    /// `None` for the one in memory.
    store: Option<Arc<dyn DedupStore>>,
}

impl Default for OnceOptions {
    fn default() -> Self {
        Self {
            max_running: DEFAULT_MAX_RUNNING,
            max_bytes: DEFAULT_MAX_BYTES,
            max_answer_bytes: DEFAULT_MAX_ANSWER_BYTES,
            retention: DEFAULT_RETENTION,
            store: None,
        }
    }
}

impl OnceOptions {
    /// Sets the number of calls that run, or wait for another server that runs them, at the same time. Default 4,096; one
    /// caller has at most half of them. Further ones are refused with `resource_exhausted`. They are limited apart from the
    /// calls in flight because a call goes on when its caller has gone. Too low, and calls are refused; too high, and callers
    /// that go away leave as many handlers behind.
    pub const fn max_running(mut self, calls: usize) -> Self {
        self.max_running = calls;
        self
    }

    /// Sets the memory for keys and answers, in bytes. Default 64 MiB; one caller has at most half of it. A call for which
    /// there is no room is refused with `resource_exhausted`, since no answer is given up before its time. Too low, and calls
    /// are refused; a call takes 512 bytes, its key, its answer, and while it runs its arguments.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the size up to which an answer is kept, in bytes. Default 1 MiB. The callers that wait for a larger one get it, and
    /// a later try is told that the call was carried out and its answer was not kept.
    pub const fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.max_answer_bytes = bytes;
        self
    }

    /// Sets the time for which an answer is kept after its call has ended. Default 10 minutes. Too short, and a call that is
    /// repeated later is carried out twice: clients repeat calls for up to two minutes; too long, and the memory is used up.
    pub const fn retention(mut self, time: Duration) -> Self {
        self.retention = time;
        self
    }

    /// Sets the store of keys and answers. Default: [`MemoryDedupStore`], which this server has to itself. The settings of
    /// bytes and time above are for that one; another store has its own.
    pub fn store(mut self, store: impl DedupStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Returns the store.
    pub(super) fn build_store(&self) -> Arc<dyn DedupStore> {
        self.store.clone().unwrap_or_else(|| {
            Arc::new(MemoryDedupStore::new(self.max_bytes, self.max_answer_bytes, self.retention))
        })
    }
}

impl fmt::Debug for OnceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceOptions")
            .field("max_running", &self.max_running)
            .field("max_bytes", &self.max_bytes)
            .field("max_answer_bytes", &self.max_answer_bytes)
            .field("retention", &self.retention)
            .field("store", &self.store.as_ref().map(|store| store.name()))
            .finish()
    }
}
