//! [`OffloadPool`]: threads for slow polls, apart from those that run connections.
//!
//! They are threads of tokio's for blocking operations, taken while there are jobs and released
//! after them. What the jobs do is for [`super::handler_task`], their order for [`super::fair_queue`].
//!
//! Both the clock and the threads are an [`OffloadRuntime`], which tests replace: see its example.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
#[cfg(not(all(test, shuttle)))]
use std::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool};
use std::time::Duration;

#[cfg(all(test, shuttle))]
use shuttle::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::fair_queue::{FairQueue, Flow, Taken, Ticket};
use super::offload_runtime::{OffloadRuntime, ThreadTime};

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
    /// The jobs that run, by the numbers of their workers. Bounded by the threads.
    running: HashMap<u64, Running>,
    /// Those of them for which another thread was added.
    stalled: usize,
    last_worker: u64,
    /// The last time that a job was taken, or that threads were looked for that wait.
    progressed_at: Instant,
    quick_seen: Option<Instant>,
}

/// A job that runs on a thread of the pool.
struct Running {
    taken: Taken,
    began: Reading,
    /// The last look at whether it waits.
    seen: Reading,
    thread: Option<ThreadTime>,
    is_express: bool,
    is_short: bool,
    /// `true` if a thread was added for it.
    is_stalled: bool,
}

/// The time for which a thread had been busy at a moment.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    /// `None` if it is not known.
    busy: Option<Duration>,
}

/// A thread of the pool. It is counted until it is dropped, whatever happens to it.
struct Worker {
    pool: Arc<OffloadPool>,
    number: u64,
    is_express: bool,
    counted: bool,
}

/// Threads that the pool may have in addition, for short jobs of clients that wait behind the long jobs of
/// others. The second is for the case that a job on the first turns out to be long.
const MAX_EXPRESS_THREADS: usize = 2;
/// The time after which a short job waits no longer for the long jobs of other clients.
const EXPRESS_PATIENCE: Duration = Duration::from_millis(1);
/// The time of a job up to which it is short: others have their turn soon, and get no thread in addition.
pub(crate) const SHORT_JOB: Duration = Duration::from_millis(5);
/// After this time without quick calls, no core is left to them.
const QUICK_CALL_MEMORY: Duration = Duration::from_millis(100);
/// A pool whose threads have all been at one job for this long is stalled if its jobs wait rather than
/// work, perhaps for a job that is queued behind them.
const STALL_THRESHOLD: Duration = Duration::from_secs(1);
/// A job that has run for this long is taken for one that waits, though it keeps its thread busy: it may do so until a job
/// behind it has run. Others are not, or long jobs would get ever more threads, and memory, the longer each takes.
const BUSY_STALL_THRESHOLD: Duration = Duration::from_secs(10);

impl OffloadPool {
    pub(crate) fn new(runtime: Arc<dyn OffloadRuntime>) -> Arc<Self> {
        let state = State {
            queue: FairQueue::new(),
            threads: 0,
            express: 0,
            running: HashMap::new(),
            stalled: 0,
            last_worker: 0,
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

    /// Waits for what a job sends at its end, and has threads added if that takes long.
    pub(crate) async fn wait<T>(
        self: &Arc<Self>,
        done: &mut oneshot::Receiver<T>,
        tasks: &TaskTracker,
    ) -> Result<T, oneshot::error::RecvError> {
        let mut patience = EXPRESS_PATIENCE;
        loop {
            match timeout(patience, &mut *done).await {
                Ok(result) => return result,
                Err(_elapsed) => self.add_thread_if_late(tasks),
            }
            patience = if patience == EXPRESS_PATIENCE { SHORT_JOB } else { STALL_THRESHOLD };
        }
    }

    /// Adds a thread for short jobs of clients that no thread serves, if there are any and all threads are at long ones; or one
    /// more if no job was taken for [`STALL_THRESHOLD`], and one waits. Called when a job has been queued for
    /// [`EXPRESS_PATIENCE`], then for [`SHORT_JOB`], and then for each [`STALL_THRESHOLD`].
    pub(super) fn add_thread_if_late(self: &Arc<Self>, tasks: &TaskTracker) {
        let mut state = self.lock();
        let now = self.runtime.now();
        if !state.queue.is_empty() && now - state.progressed_at >= STALL_THRESHOLD {
            state.progressed_at = now;
            state.find_stalled(now);
        }
        if state.threads >= self.max_threads(&mut state, now)
            && state.express < MAX_EXPRESS_THREADS
            && !state.has_short_job(now)
            && state.queue.has_unserved(|job| job.is_short())
        {
            state.express += 1;
            return self.spawn_worker(state, true, tasks);
        }
        self.add_thread(state, now, tasks);
    }

    fn add_thread(self: &Arc<Self>, mut state: MutexGuard<'_, State>, now: Instant, tasks: &TaskTracker) {
        if state.queue.is_empty() || state.threads >= self.max_threads(&mut state, now) {
            return;
        }
        state.threads += 1;
        self.spawn_worker(state, false, tasks);
    }

    fn spawn_worker(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        is_express: bool,
        tasks: &TaskTracker,
    ) {
        state.last_worker += 1;
        let number = state.last_worker;
        drop(state);
        let worker = Worker { pool: Arc::clone(self), number, is_express, counted: true };
        let tracked = tasks.token();
        self.runtime.spawn_worker(Box::new(move || {
            worker.work();
            drop(tracked);
        }));
    }

    /// Returns the next job for a worker. `None` if it is to end. `thread` is the time of its thread.
    fn next(&self, worker: &Worker, thread: Option<&ThreadTime>) -> Option<Box<dyn Job>> {
        let busy = thread.and_then(ThreadTime::busy);
        let mut guard = self.lock();
        let state = &mut *guard;
        let now = self.runtime.now();
        state.end(worker.number, Reading { at: now, busy });
        let next = if worker.is_express {
            // Without long jobs, each has its turn on the other threads: this one would only take a core from quick calls.
            let is_needed = !state.has_short_job(now);
            is_needed.then(|| state.queue.take_unserved(|job| job.is_short())).flatten()
        } else if state.threads <= self.max_threads(state, now) {
            state.queue.take()
        } else {
            None
        };
        let Some((job, taken)) = next else {
            state.uncount(worker.is_express);
            return None;
        };
        if !worker.is_express {
            state.progressed_at = now;
        }
        let running = Running {
            taken,
            began: Reading { at: now, busy },
            seen: Reading { at: now, busy },
            thread: thread.cloned(),
            is_express: worker.is_express,
            is_short: job.is_short(),
            is_stalled: false,
        };
        state.running.insert(worker.number, running);
        Some(job)
    }

    fn max_threads(&self, state: &mut State, now: Instant) -> usize {
        if self.quick.load(Relaxed) {
            self.quick.store(false, Relaxed);
            state.quick_seen = Some(now);
        }
        let quick_lately = state.quick_seen.is_some_and(|seen| now - seen < QUICK_CALL_MEMORY);
        (self.cores - usize::from(quick_lately)).max(1) + state.stalled
    }

    /// No code of users runs under this lock but that of an [`OffloadRuntime`], so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Charges the job of a worker that has ended, if it ran one, to its client.
    fn end(&mut self, worker: u64, now: Reading) {
        let Some(job) = self.running.remove(&worker) else { return };
        let mut took = now.at - job.began.at;
        if took > STALL_THRESHOLD {
            // A job that was blocked has worked for less time than it took.
            took = took.min(job.began.busy_until(now).unwrap_or(STALL_THRESHOLD));
        }
        self.queue.finish(job.taken, took);
        self.stalled -= usize::from(job.is_stalled);
    }

    /// Looks for a job that waits, and for which no thread was added yet, so that one is.
    fn find_stalled(&mut self, now: Instant) {
        let mut stalled = None;
        for job in self.running.values_mut().filter(|job| !job.is_stalled && !job.is_express) {
            let is_busy = job.is_busy(now) && now - job.began.at < BUSY_STALL_THRESHOLD;
            if !is_busy {
                stalled = Some(job);
            }
        }
        if let Some(job) = stalled {
            job.is_stalled = true;
            self.stalled += 1;
        }
    }

    /// Returns `true` if a thread without those in `express` will soon take the next job.
    fn has_short_job(&self, now: Instant) -> bool {
        self.running.values().any(|job| !job.is_express && job.is_short && now - job.began.at <= SHORT_JOB)
    }

    const fn uncount(&mut self, is_express: bool) {
        if is_express {
            self.express -= 1;
        } else {
            self.threads -= 1;
        }
    }
}

impl Running {
    /// Returns `true` if its thread was busy for half of the time since this was last asked.
    fn is_busy(&mut self, now: Instant) -> bool {
        let seen = Reading { at: now, busy: self.thread.as_ref().and_then(ThreadTime::busy) };
        let before = std::mem::replace(&mut self.seen, seen);
        before.busy_until(seen).is_some_and(|busy| 2 * busy >= now - before.at)
    }
}

impl Reading {
    /// Returns the time for which the thread was busy between two readings.
    fn busy_until(self, later: Self) -> Option<Duration> {
        Some(later.busy?.saturating_sub(self.busy?))
    }
}

impl Worker {
    /// Runs jobs until none is left for this thread. One job follows the other here, since to wake a
    /// thread for each would take as long as some of them do.
    fn work(mut self) {
        let thread = self.pool.runtime.thread_time();
        while let Some(job) = self.pool.next(&self, thread.as_ref()) {
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
            state.end(self.number, Reading { at: self.pool.runtime.now(), busy: None });
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
