//! [`OffloadPool`]: threads for slow polls, apart from those that run connections.
//!
//! They are threads of tokio's for blocking operations, taken while there are jobs and released
//! after them. What the jobs do is for [`super::handler_task`].
//!
//! Both the clock and the threads are an [`OffloadRuntime`], which tests replace: see its example.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Work that occupies a thread.
pub(crate) trait Job: Send {
    /// Returns the queue of the job, in the sense of fair queueing. Jobs of one flow take about as
    /// long as each other. There are few flows.
    fn flow(&self) -> usize;

    fn run(self: Box<Self>);

    /// Called in place of `run` if the job is taken out of the queue.
    fn cancel(self: Box<Self>);
}

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
}

/// The runtime of servers outside of tests: all cores, tokio's clock, tokio's threads for blocking
/// operations.
#[derive(Clone, Copy, Debug)]
pub struct TokioOffload {
    cores: usize,
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
}

struct State {
    flows: HashMap<usize, Flow>,
    /// The number of queued jobs. Bounded by the calls in flight: each has one job at a time, and
    /// cancels it when the call is stopped.
    queued: usize,
    last_number: u64,
    /// The start tag of the last job that was taken, in time that threads have worked.
    virtual_time: Duration,
    threads: usize,
    /// Threads that are assumed to wait rather than to work.
    stalled: usize,
    /// The last time that a job was taken, or a thread added to a stalled pool.
    progressed_at: Instant,
    quick_seen: Option<Instant>,
}

/// The position of a job in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    flow: usize,
    number: u64,
}

/// The jobs of one method.
///
/// Threads divide their time fairly between flows, so that a quick method that was taken for slow
/// does not queue behind a hundred slow calls: the next job is of the flow that has had least time,
/// but an idle flow saves up no time. This is start-time fair queueing, by Goyal, Vin and Cheng
/// (1996), with the time that a job took added once it is known.
#[derive(Default)]
struct Flow {
    /// The jobs that no thread has taken, in order.
    jobs: BTreeMap<u64, Box<dyn Job>>,
    /// The finish tag: the time that the flow has had.
    finish: Duration,
}

/// A thread of the pool. It is counted until it is dropped, whatever happens to it.
struct Worker {
    pool: Arc<OffloadPool>,
    counted: bool,
}

/// After this time without quick calls, no core is left to them.
const QUICK_CALL_MEMORY: Duration = Duration::from_millis(100);
/// A pool whose threads have all been at one job for this long is stalled: its jobs wait rather than
/// work, perhaps for a job that is queued behind them.
pub(crate) const STALL_THRESHOLD: Duration = Duration::from_secs(1);

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
        tokio::task::spawn_blocking(worker);
    }
}

impl OffloadPool {
    pub(crate) fn new(runtime: Arc<dyn OffloadRuntime>) -> Arc<Self> {
        let state = State {
            flows: HashMap::new(),
            queued: 0,
            last_number: 0,
            virtual_time: Duration::ZERO,
            threads: 0,
            stalled: 0,
            progressed_at: runtime.now(),
            quick_seen: None,
        };
        let cores = runtime.cores().max(1);
        Arc::new(Self { runtime, cores, state: Mutex::new(state), quick: AtomicBool::new(false) })
    }

    /// Notes that a quick call has come.
    pub(crate) fn note_quick_call(&self) {
        // Loaded first: a store that is not needed would take the cache line from other cores.
        if !self.quick.load(Relaxed) {
            self.quick.store(true, Relaxed);
        }
    }

    /// Queues `job` for a thread that `tasks` waits for.
    pub(crate) fn enqueue(self: &Arc<Self>, job: Box<dyn Job>, tasks: &TaskTracker) -> Ticket {
        let mut state = self.lock();
        let now = self.runtime.now();
        if state.queued == 0 {
            state.progressed_at = now;
        }
        let ticket = state.enqueue(job);
        self.add_thread(state, now, tasks);
        ticket
    }

    /// Cancels a job that no thread has taken. Returns `false` if one has.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        let job = self.lock().remove(ticket);
        // After unlocking: a job may hold user data whose `Drop` runs arbitrary code.
        job.map(Job::cancel).is_some()
    }

    /// Adds a thread if no job was taken for [`STALL_THRESHOLD`] though some are queued. Called by
    /// those whose job has been queued for so long.
    pub(crate) fn add_thread_if_stalled(self: &Arc<Self>, tasks: &TaskTracker) {
        let mut state = self.lock();
        let now = self.runtime.now();
        if state.queued > 0 && now - state.progressed_at >= STALL_THRESHOLD {
            state.progressed_at = now;
            state.stalled = (state.stalled + 1).min(state.threads);
        }
        self.add_thread(state, now, tasks);
    }

    fn add_thread(self: &Arc<Self>, mut state: MutexGuard<'_, State>, now: Instant, tasks: &TaskTracker) {
        if state.queued == 0 || state.threads >= self.max_threads(&mut state, now) {
            return;
        }
        state.threads += 1;
        drop(state);
        let worker = Worker { pool: Arc::clone(self), counted: true };
        let tracked = tasks.token();
        self.runtime.spawn_worker(Box::new(move || {
            worker.work(now);
            drop(tracked);
        }));
    }

    /// Returns the next job for a thread that was busy since `since`, with a job of `flow` if with
    /// any, and the current time. `None` if the thread is to end.
    fn next(&self, flow: Option<usize>, since: Instant) -> Option<(Box<dyn Job>, Instant)> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let now = self.runtime.now();
        let took = now - since;
        if let Some(flow) = flow.and_then(|flow| state.flows.get_mut(&flow)) {
            // A job that was blocked has worked for less time than it took.
            flow.finish += took.min(STALL_THRESHOLD);
        }
        if took >= STALL_THRESHOLD {
            state.stalled = state.stalled.saturating_sub(1);
        }
        if state.threads <= self.max_threads(state, now)
            && let Some(job) = state.take_next()
        {
            state.progressed_at = now;
            return Some((job, now));
        }
        state.threads -= 1;
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

impl fmt::Debug for OffloadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffloadPool").field("cores", &self.cores).finish_non_exhaustive()
    }
}

impl State {
    fn enqueue(&mut self, job: Box<dyn Job>) -> Ticket {
        self.last_number += 1;
        let ticket = Ticket { flow: job.flow(), number: self.last_number };
        self.flows.entry(ticket.flow).or_default().jobs.insert(ticket.number, job);
        self.queued += 1;
        ticket
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Box<dyn Job>> {
        let job = self.flows.get_mut(&ticket.flow)?.jobs.remove(&ticket.number)?;
        self.queued -= 1;
        Some(job)
    }

    /// Takes the next job, of the flow that has had least time.
    fn take_next(&mut self) -> Option<Box<dyn Job>> {
        let virtual_time = self.virtual_time;
        let queued = self.flows.values_mut().filter(|flow| !flow.jobs.is_empty());
        let start = |flow: &&mut Flow| (flow.finish.max(virtual_time), flow.jobs.keys().next().copied());
        let flow = queued.min_by_key(start)?;
        flow.finish = flow.finish.max(virtual_time);
        self.virtual_time = flow.finish;
        self.queued -= 1;
        flow.jobs.pop_first().map(|(_, job)| job)
    }
}

impl Worker {
    /// Runs jobs until none is left for this thread. One job follows the other here, since to wake a
    /// thread for each would take as long as some of them do.
    fn work(mut self, spawned: Instant) {
        let (mut flow, mut since) = (None, spawned);
        while let Some((job, now)) = self.pool.next(flow, since) {
            (flow, since) = (Some(job.flow()), now);
            job.run();
        }
        self.counted = false;
    }
}

impl Drop for Worker {
    /// Uncounts a thread that was never started, or whose job panicked.
    fn drop(&mut self) {
        if self.counted {
            self.pool.lock().threads -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
