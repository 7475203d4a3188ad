//! [`OffloadPool`]: threads for slow polls, apart from those that run connections.
//!
//! They are threads of tokio's for blocking operations, taken while there are jobs and released
//! after them. What the jobs do is for [`super::handler_task`], their order for [`super::fair_queue`].
//!
//! Both the clock and the threads are an [`OffloadRuntime`], which tests replace: see its example.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
#[cfg(not(all(test, shuttle)))]
use std::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool};
use std::time::Duration;

#[cfg(all(test, shuttle))]
use shuttle::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::fair_queue::{FairQueue, Flow, Taken, Ticket};
use super::offload_runtime::OffloadRuntime;

/// Work that occupies a thread.
pub(crate) trait Job: Send {
    /// Returns the job's origin, among which the threads' time is divided.
    fn flow(&self) -> Flow;

    /// Returns `true` if the last jobs of its client were so short that this one will hardly hold up others.
    fn is_short(&self) -> bool;

    fn run(self: Box<Self>);

    /// Called in place of `run` if the job is taken out of the queue.
    fn cancel(self: Box<Self>);
}

/// Queued jobs, and threads for them that leave a core to everything else.
///
/// The operating system divides cores fairly between threads, but in slices of milliseconds: with a
/// busy thread on every core, a connection that is woken waits for the end of a slice.
pub(crate) struct OffloadPool {
    runtime: Arc<dyn OffloadRuntime>,
    cores: usize,
    state: Mutex<State>,
    /// `true` if quick calls have come since this was last read.
    quick: AtomicBool,
    /// `true` while a call of a method of which little is known is polled on the task of a connection.
    trial: AtomicBool,
}

/// The permission to poll one call on the task of a connection, though its method may turn out to be slow.
pub(crate) struct Trial<'a>(&'a AtomicBool);

struct State {
    /// Bounded by the calls in flight: each has one job at a time, and cancels it when the call is
    /// stopped.
    queue: FairQueue<Box<dyn Job>>,
    /// Threads without those in `express`.
    threads: usize,
    /// Threads for short jobs of clients that no other thread serves. At most [`MAX_EXPRESS_THREADS`].
    express: usize,
    /// Threads that are assumed to wait rather than to work.
    stalled: usize,
    /// The last time that a job was taken, or a thread added to a stalled pool.
    progressed_at: Instant,
    quick_seen: Option<Instant>,
}

/// A thread of the pool. It is counted until it is dropped, whatever happens to it.
struct Worker {
    pool: Arc<OffloadPool>,
    is_express: bool,
    counted: bool,
    /// The job that it runs, and since when.
    running: Option<(Taken, Instant)>,
}

/// Threads that the pool may have in addition, for short jobs of clients that wait behind the long jobs of
/// others. The second is for the case that a job on the first turns out to be long.
const MAX_EXPRESS_THREADS: usize = 2;
/// The time after which a short job waits no longer for the long jobs of other clients.
pub(crate) const EXPRESS_PATIENCE: Duration = Duration::from_millis(1);
/// After this time without quick calls, no core is left to them.
const QUICK_CALL_MEMORY: Duration = Duration::from_millis(100);
/// A pool whose threads have all been at one job for this long is stalled: its jobs wait rather than
/// work, perhaps for a job that is queued behind them.
pub(crate) const STALL_THRESHOLD: Duration = Duration::from_secs(1);

impl OffloadPool {
    pub(crate) fn new(runtime: Arc<dyn OffloadRuntime>) -> Arc<Self> {
        let state = State {
            queue: FairQueue::new(),
            threads: 0,
            express: 0,
            stalled: 0,
            progressed_at: runtime.now(),
            quick_seen: None,
        };
        let cores = runtime.cores().max(1);
        Arc::new(Self {
            runtime,
            cores,
            state: Mutex::new(state),
            quick: AtomicBool::new(false),
            trial: AtomicBool::new(false),
        })
    }

    /// Notes that a quick call has come.
    pub(crate) fn note_quick_call(&self) {
        // Loaded first: a store that is not needed would take the cache line from other cores.
        if !self.quick.load(Relaxed) {
            self.quick.store(true, Relaxed);
        }
    }

    /// Begins a trial, unless there is one: so one thread at most is held up by methods of which little is
    /// known.
    pub(crate) fn try_trial(&self) -> Option<Trial<'_>> {
        (!self.trial.swap(true, Relaxed)).then_some(Trial(&self.trial))
    }

    /// Returns for how long the calling thread has waited for a core. See [`OffloadRuntime::preempted`].
    pub(crate) fn preempted(&self) -> Duration {
        self.runtime.preempted()
    }

    /// Queues `job` for a thread that `tasks` waits for.
    pub(crate) fn enqueue(self: &Arc<Self>, job: Box<dyn Job>, tasks: &TaskTracker) -> Ticket {
        let mut state = self.lock();
        let now = self.runtime.now();
        if state.queue.is_empty() {
            state.progressed_at = now;
        }
        let ticket = state.queue.push(job.flow(), job);
        self.add_thread(state, now, tasks);
        ticket
    }

    /// Cancels a job that no thread has taken. Returns `false` if one has.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        let job = self.lock().queue.remove(ticket);
        // After unlocking: a job may hold user data whose `Drop` runs arbitrary code.
        job.map(Job::cancel).is_some()
    }

    /// Adds a thread for short jobs of clients that no thread serves, if there are any; or one more if no job
    /// was taken for [`STALL_THRESHOLD`]. Called by those whose job has been queued for
    /// [`EXPRESS_PATIENCE`], and then for each [`STALL_THRESHOLD`].
    pub(crate) fn add_thread_if_late(self: &Arc<Self>, tasks: &TaskTracker) {
        let mut state = self.lock();
        let now = self.runtime.now();
        if !state.queue.is_empty() && now - state.progressed_at >= STALL_THRESHOLD {
            state.progressed_at = now;
            state.stalled = (state.stalled + 1).min(state.threads);
        }
        if state.threads >= self.max_threads(&mut state, now)
            && state.express < MAX_EXPRESS_THREADS
            && state.queue.has_unserved(|job| job.is_short())
        {
            state.express += 1;
            drop(state);
            return self.spawn_worker(true, tasks);
        }
        self.add_thread(state, now, tasks);
    }

    fn add_thread(self: &Arc<Self>, mut state: MutexGuard<'_, State>, now: Instant, tasks: &TaskTracker) {
        if state.queue.is_empty() || state.threads >= self.max_threads(&mut state, now) {
            return;
        }
        state.threads += 1;
        drop(state);
        self.spawn_worker(false, tasks);
    }

    fn spawn_worker(self: &Arc<Self>, is_express: bool, tasks: &TaskTracker) {
        let worker = Worker { pool: Arc::clone(self), is_express, counted: true, running: None };
        let tracked = tasks.token();
        self.runtime.spawn_worker(Box::new(move || {
            worker.work();
            drop(tracked);
        }));
    }

    /// Returns the next job for a thread, and the current time. `None` if the thread is to end. `ended` is the job
    /// that it ran before, and when that began.
    fn next(
        &self,
        is_express: bool,
        ended: Option<(Taken, Instant)>,
    ) -> Option<(Box<dyn Job>, (Taken, Instant))> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let now = self.runtime.now();
        state.end(ended, now);
        let next = if is_express {
            state.queue.take_unserved(|job| job.is_short())
        } else if state.threads <= self.max_threads(state, now) {
            state.queue.take()
        } else {
            None
        };
        if let Some((job, taken)) = next {
            if !is_express {
                state.progressed_at = now;
            }
            return Some((job, (taken, now)));
        }
        state.uncount(is_express);
        None
    }

    fn max_threads(&self, state: &mut State, now: Instant) -> usize {
        if self.quick.load(Relaxed) {
            self.quick.store(false, Relaxed);
            state.quick_seen = Some(now);
        }
        let quick_lately = state.quick_seen.is_some_and(|seen| now - seen < QUICK_CALL_MEMORY);
        (self.cores - usize::from(quick_lately)).max(1) + state.stalled
    }

    /// No user code runs under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Charges a job that has ended to its client.
    fn end(&mut self, ended: Option<(Taken, Instant)>, now: Instant) {
        let Some((taken, since)) = ended else { return };
        let took = now - since;
        // A job that was blocked has worked for less time than it took.
        self.queue.finish(taken, took.min(STALL_THRESHOLD));
        if took >= STALL_THRESHOLD {
            self.stalled = self.stalled.saturating_sub(1);
        }
    }

    const fn uncount(&mut self, is_express: bool) {
        if is_express {
            self.express -= 1;
        } else {
            self.threads -= 1;
        }
    }
}

impl Worker {
    /// Runs jobs until none is left for this thread. One job follows the other here, since to wake a
    /// thread for each would take as long as some of them do.
    fn work(mut self) {
        while let Some((job, running)) = self.pool.next(self.is_express, self.running.take()) {
            self.running = Some(running);
            job.run();
        }
        self.counted = false;
    }
}

impl Drop for Worker {
    /// Uncounts a thread that was never started, or whose job panicked.
    fn drop(&mut self) {
        if self.counted {
            let mut state = self.pool.lock();
            state.end(self.running.take(), self.pool.runtime.now());
            state.uncount(self.is_express);
        }
    }
}

impl fmt::Debug for OffloadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffloadPool").field("cores", &self.cores).finish_non_exhaustive()
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests;
