//! [`OffloadRuntime`]: the clock and the threads of the pool that polls slow handlers. The pool itself is in
//! [`super::offload`].

use std::thread::available_parallelism;
use std::time::Duration;

use tokio::time::Instant;

/// The clock and the threads of the pool that polls slow handlers. The default is
/// [`TokioOffload`].
///
/// This is the seam for tests: an implementation with its own clock and a list of workers, which the
/// test runs one by one, makes the order of slow polls deterministic and needs neither real threads
/// nor real time. `ServerBuilder::offload_runtime` sets it.
///
/// Polls themselves are timed by [`Instant`], tokio's clock: under paused time a handler makes
/// its own poll slow with `tokio::time::advance(Duration::from_millis(5)).await` as its first
/// statement, since that moves the clock before it yields. No thread has to be kept busy.
pub trait OffloadRuntime: Send + Sync + 'static {
    /// Returns the number of cores that the pool may occupy, at least 1.
    fn cores(&self) -> usize;

    /// Returns the current time.
    fn now(&self) -> Instant;

    /// Runs `worker` on a thread that runs no connection. It takes jobs until there are none, and may
    /// also be dropped instead of being run. It enters the tokio runtime of each job, so it cannot run
    /// on a thread that is inside of one.
    fn spawn_worker(&self, worker: Box<dyn FnOnce() + Send>);

    /// Returns for how long the calling thread has waited for a core, though it could run, since it
    /// started. A handler is not slow because something else ran during its poll. Zero if that is not
    /// known, and by default.
    fn preempted(&self) -> Duration {
        Duration::ZERO
    }
}

/// The runtime of servers outside of tests: all cores, tokio's clock, tokio's threads for blocking
/// operations, and on Linux the kernel's account of each thread's waiting.
#[derive(Clone, Copy, Debug)]
pub struct TokioOffload {
    cores: usize,
}

impl TokioOffload {
    /// Creates the runtime with the cores that this process may use.
    #[must_use]
    pub fn new() -> Self {
        Self { cores: available_parallelism().map_or(1, usize::from) }
    }
}

impl Default for TokioOffload {
    fn default() -> Self {
        Self::new()
    }
}

impl OffloadRuntime for TokioOffload {
    fn cores(&self) -> usize {
        self.cores
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn spawn_worker(&self, worker: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(|| {
            let _open = schedstat::Open::new();
            worker();
        });
    }

    fn preempted(&self) -> Duration {
        schedstat::waited()
    }
}

/// The scheduler's statistics of a thread.
#[cfg(target_os = "linux")]
mod schedstat {
    use std::cell::RefCell;
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::time::Duration;

    thread_local! {
        static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
    }

    /// Keeps the file of the calling thread open while the thread works for the pool: it is read for each poll, and
    /// to open it takes several times as long. Other threads open it when they read it, which is seldom.
    pub(super) struct Open(());

    impl Open {
        pub(super) fn new() -> Self {
            FILE.set(open());
            Self(())
        }
    }

    impl Drop for Open {
        fn drop(&mut self) {
            FILE.set(None);
        }
    }

    fn open() -> Option<File> {
        File::open("/proc/thread-self/schedstat").ok()
    }

    /// Returns how long the calling thread has waited for a core.
    pub(super) fn waited() -> Duration {
        let nanos = FILE.with_borrow(|file| match file {
            Some(file) => read(file),
            None => read(&open()?),
        });
        Duration::from_nanos(nanos.unwrap_or(0))
    }

    fn read(file: &File) -> Option<u64> {
        // Three numbers of at most 20 digits: the time on a core, the time waiting for one, and slices.
        let mut line = [0; 64];
        let read = file.read_at(&mut line, 0).ok()?;
        let line = std::str::from_utf8(&line[..read]).ok()?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod schedstat {
    use std::time::Duration;

    pub(super) struct Open(());

    impl Open {
        pub(super) const fn new() -> Self {
            Self(())
        }
    }

    pub(super) const fn waited() -> Duration {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_core_never_decreases_and_is_less_than_the_time_that_passes() {
        let (runtime, began) = (TokioOffload::new(), std::time::Instant::now());
        let before = runtime.preempted();
        for _ in 0..100 {
            std::thread::yield_now();
        }
        let after = runtime.preempted();
        assert!(after >= before && after - before <= began.elapsed(), "{before:?} {after:?}");
    }
}
