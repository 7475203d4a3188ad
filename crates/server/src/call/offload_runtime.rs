//! [`OffloadRuntime`]: the clock and the threads of the pool that polls slow handlers. The pool itself is in
//! [`super::offload`].

use std::fmt;
use std::sync::Arc;
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

    /// Returns the time for which the calling thread is busy, to be read from other threads: a job that takes long
    /// gets another thread beside its own if it waits, but not if it works. `None` if that is not known, and by
    /// default: then each that takes longer than 1 s is taken for one that waits.
    fn thread_time(&self) -> Option<ThreadTime> {
        None
    }
}

/// Tells, on any thread, for how long one thread has been busy since it started: on a core, or waiting for one.
#[derive(Clone)]
pub struct ThreadTime(Arc<dyn Fn() -> Option<Duration> + Send + Sync>);

impl ThreadTime {
    /// Creates one that calls `busy`, which returns `None` if the time is not known.
    #[must_use]
    pub fn new(busy: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self(Arc::new(busy))
    }

    /// Returns the time; `None` if it is not known.
    #[must_use]
    pub fn busy(&self) -> Option<Duration> {
        (self.0)()
    }
}

impl fmt::Debug for ThreadTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ThreadTime").field(&self.busy()).finish()
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

    fn thread_time(&self) -> Option<ThreadTime> {
        schedstat::busy_time().map(ThreadTime::new)
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
        let times = FILE.with_borrow(|file| match file {
            Some(file) => read(file),
            None => read(&open()?),
        });
        times.map_or(Duration::ZERO, |(_, waited)| waited)
    }

    /// Returns a function that tells for how long the calling thread has been busy. The file stays that of this thread,
    /// whichever reads it.
    pub(super) fn busy_time() -> Option<impl Fn() -> Option<Duration> + Send + Sync + 'static> {
        let file = open()?;
        Some(move || read(&file).map(|(on_core, waited)| on_core + waited))
    }

    /// Returns the time of a thread on a core, and the time for which it has waited for one.
    fn read(file: &File) -> Option<(Duration, Duration)> {
        // Three numbers of at most 20 digits: these times in nanoseconds, and the number of slices.
        let mut line = [0; 64];
        let read = file.read_at(&mut line, 0).ok()?;
        let line = std::str::from_utf8(&line[..read]).ok()?;
        let mut times =
            line.split_ascii_whitespace().map(|nanos| nanos.parse().ok().map(Duration::from_nanos));
        Some((times.next()??, times.next()??))
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

    pub(super) const fn busy_time() -> Option<fn() -> Option<Duration>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn time_of_a_thread_is_read_from_others_and_passes_while_it_works() {
        // Some kernels keep no account of threads, and some sandboxes show none.
        let busy = || TokioOffload::new().thread_time().and_then(|time| time.busy()).unwrap_or_default();
        let began = std::time::Instant::now();
        while busy().is_zero() {
            if began.elapsed() > Duration::from_secs(5) {
                return;
            }
        }
        let (to_worker, work) = std::sync::mpsc::channel::<Duration>();
        let (to_test, times) = std::sync::mpsc::channel();
        let worker = std::thread::spawn(move || {
            let own = TokioOffload::new().thread_time().unwrap();
            to_test.send(own.clone()).unwrap();
            for busy in work {
                let until = own.busy().unwrap() + busy;
                while own.busy().unwrap() < until {}
                to_test.send(own.clone()).unwrap();
            }
        });
        let time = times.recv().unwrap();
        let before = time.busy().unwrap();
        to_worker.send(Duration::from_millis(5)).unwrap();
        times.recv().unwrap();
        let worked = time.busy().unwrap();
        assert!(worked - before >= Duration::from_millis(5), "{before:?} {worked:?}");
        // Now it waits, once it has got a core to begin with: this takes time of the test's thread, and none of the worker's.
        let own = TokioOffload::new().thread_time().unwrap();
        let waits = || {
            let (before, until) = (time.busy().unwrap(), own.busy().unwrap() + Duration::from_millis(5));
            while own.busy().unwrap() < until {}
            time.busy().unwrap() == before
        };
        assert!((0..1000).any(|_| waits()));
        drop(to_worker);
        worker.join().unwrap();
    }

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
