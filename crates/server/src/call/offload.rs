//! Threads for what keeps one busy, beside those that run connections.
//!
//! They are threads of tokio's for blocking operations, taken while there is work and given back
//! after it. What is done there, and what becomes of it, is for [`super::handler_task`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// What keeps a thread busy.
pub(crate) trait Job: Send + 'static {
    /// Jobs of one kind take about as long as each other. There are few kinds.
    fn kind(&self) -> usize;

    fn run(self);
}

/// Jobs in line, and as many threads for them as leave a core to everything else.
///
/// The operating system divides cores fairly between threads, but in slices of milliseconds: with a
/// busy thread on every core, a connection that is woken waits for the end of a slice.
pub(crate) struct Aside<J> {
    cores: usize,
    state: Mutex<State<J>>,
    /// Whether quick calls have come since this was looked at last.
    quick: AtomicBool,
}

struct State<J> {
    kinds: HashMap<usize, Kind<J>>,
    /// How many jobs are in line. Bounded by the calls in flight: each has one job at a time, and
    /// takes it back where it is stopped.
    waiting: usize,
    last_number: u64,
    /// The start of what was taken last, in time that threads have worked.
    reached: Duration,
    threads: usize,
    /// Threads that are taken to be waiting rather than working.
    stuck: usize,
    /// When a job was last taken, or the line was helped along.
    moved: Instant,
    quick_seen: Option<Instant>,
}

/// A place in the line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    kind: usize,
    number: u64,
}

/// Threads divide their time fairly between kinds, so that a quick method that was taken for slow
/// does not stand behind a hundred burns: the next job is of the kind that has had least, but nobody
/// saves up time by staying away. That is start-time fair queueing, by Goyal, Vin and Cheng (1996),
/// with what a job takes added once it is known.
struct Kind<J> {
    /// What no thread has taken yet, in order.
    line: BTreeMap<u64, J>,
    /// The time that it has had.
    end: Duration,
}

/// A thread's stay among those that are counted, given back whatever becomes of it.
struct Worker<J: Job> {
    aside: Arc<Aside<J>>,
    counted: bool,
}

/// Without quick calls for so long, there is nothing to leave a core to.
const QUICK_LATELY: Duration = Duration::from_millis(100);
/// Where all threads are at one job for so long, they rather wait than work, and perhaps for what
/// stands in line behind them.
pub(crate) const STUCK: Duration = Duration::from_secs(1);

impl<J: Job> Aside<J> {
    pub(crate) fn new() -> Arc<Self> {
        Self::with_cores(available_parallelism().map_or(1, usize::from))
    }

    fn with_cores(cores: usize) -> Arc<Self> {
        let state = State {
            kinds: HashMap::new(),
            waiting: 0,
            last_number: 0,
            reached: Duration::ZERO,
            threads: 0,
            stuck: 0,
            moved: Instant::now(),
            quick_seen: None,
        };
        Arc::new(Self { cores, state: Mutex::new(state), quick: AtomicBool::new(false) })
    }

    /// Takes note of a quick call.
    pub(crate) fn quick_call(&self) {
        // Loaded first: a store that is not needed would take the line from other cores.
        if !self.quick.load(Relaxed) {
            self.quick.store(true, Relaxed);
        }
    }

    /// Has `job` run when its turn comes, on a thread that `tasks` waits for.
    pub(crate) fn line_up(self: &Arc<Self>, job: J, tasks: &TaskTracker) -> Ticket {
        let mut state = self.lock();
        let now = Instant::now();
        if state.waiting == 0 {
            state.moved = now;
        }
        let ticket = state.line_up(job);
        self.add_thread(state, now, tasks);
        ticket
    }

    /// Takes a job back that no thread has taken yet.
    pub(crate) fn withdraw(&self, ticket: Ticket) -> Option<J> {
        let mut state = self.lock();
        let job = state.kinds.get_mut(&ticket.kind)?.line.remove(&ticket.number)?;
        state.waiting -= 1;
        Some(job)
    }

    /// Helps the line along where it does not move, for whoever has stood in it for [`STUCK`].
    pub(crate) fn help(self: &Arc<Self>, tasks: &TaskTracker) {
        let mut state = self.lock();
        let now = Instant::now();
        if state.waiting > 0 && now - state.moved >= STUCK {
            state.moved = now;
            state.stuck = (state.stuck + 1).min(state.threads);
        }
        self.add_thread(state, now, tasks);
    }

    fn add_thread(self: &Arc<Self>, mut state: MutexGuard<'_, State<J>>, now: Instant, tasks: &TaskTracker) {
        if state.waiting == 0 || state.threads >= self.most_threads(&mut state, now) {
            return;
        }
        state.threads += 1;
        drop(state);
        let worker = Worker { aside: Arc::clone(self), counted: true };
        tasks.spawn_blocking(move || worker.work(now));
    }

    /// The next job for a thread that was busy since `began`, with a job of `kind` if with any; and
    /// what time it is. None where the thread is to go.
    fn next(&self, kind: Option<usize>, began: Instant) -> Option<(J, Instant)> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let now = Instant::now();
        let took = now - began;
        if let Some(kind) = kind.and_then(|kind| state.kinds.get_mut(&kind)) {
            // One that was blocked has worked less than that.
            kind.end += took.min(STUCK);
        }
        if took >= STUCK {
            state.stuck = state.stuck.saturating_sub(1);
        }
        if state.threads <= self.most_threads(state, now)
            && let Some(job) = state.take()
        {
            state.moved = now;
            return Some((job, now));
        }
        state.threads -= 1;
        None
    }

    fn most_threads(&self, state: &mut State<J>, now: Instant) -> usize {
        if self.quick.load(Relaxed) {
            self.quick.store(false, Relaxed);
            state.quick_seen = Some(now);
        }
        let quick_lately = state.quick_seen.is_some_and(|seen| now - seen < QUICK_LATELY);
        (self.cores - usize::from(quick_lately)).max(1) + state.stuck
    }

    /// No code of a user's runs under this lock, so that nothing in it can be half done.
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Job> State<J> {
    fn line_up(&mut self, job: J) -> Ticket {
        self.last_number += 1;
        let ticket = Ticket { kind: job.kind(), number: self.last_number };
        let kind = self.kinds.entry(ticket.kind);
        let kind = kind.or_insert_with(|| Kind { line: BTreeMap::new(), end: Duration::ZERO });
        kind.line.insert(ticket.number, job);
        self.waiting += 1;
        ticket
    }

    /// The next job, of the kind that has had least.
    fn take(&mut self) -> Option<J> {
        let reached = self.reached;
        let in_line = self.kinds.values_mut().filter(|kind| !kind.line.is_empty());
        let first = |kind: &&mut Kind<J>| (kind.end.max(reached), kind.line.keys().next().copied());
        let kind = in_line.min_by_key(first)?;
        kind.end = kind.end.max(reached);
        self.reached = kind.end;
        self.waiting -= 1;
        kind.line.pop_first().map(|(_, job)| job)
    }
}

impl<J: Job> Worker<J> {
    /// A thread's whole stay. One job follows on the other here, since to wake a thread for each
    /// would take as long as some of them do.
    fn work(mut self, spawned: Instant) {
        let (mut kind, mut began) = (None, spawned);
        while let Some((job, now)) = self.aside.next(kind, began) {
            (kind, began) = (Some(job.kind()), now);
            job.run();
        }
        self.counted = false;
    }
}

impl<J: Job> Drop for Worker<J> {
    /// Also where the thread never came, or a job panicked.
    fn drop(&mut self) {
        if self.counted {
            self.aside.lock().threads -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Ends when nobody can send to it any more.
    struct Blocks(mpsc::Receiver<()>);

    impl Job for Blocks {
        fn kind(&self) -> usize {
            0
        }

        fn run(self) {
            let _ = self.0.recv();
        }
    }

    fn lines_up(aside: &Arc<Aside<Blocks>>, tasks: &TaskTracker) -> (mpsc::Sender<()>, Ticket) {
        let (sender, receiver) = mpsc::channel();
        (sender, aside.line_up(Blocks(receiver), tasks))
    }

    fn threads(aside: &Aside<Blocks>) -> usize {
        aside.lock().threads
    }

    #[tokio::test(start_paused = true)]
    async fn a_core_is_left_to_quick_calls_while_there_are_some() {
        let (aside, tasks) = (Aside::with_cores(3), TaskTracker::new());
        aside.quick_call();
        let jobs: Vec<_> = (0..4).map(|_| lines_up(&aside, &tasks)).collect();
        assert_eq!(threads(&aside), 2);
        tokio::time::advance(QUICK_LATELY).await;
        let another = lines_up(&aside, &tasks);
        assert_eq!(threads(&aside), 3);
        drop((jobs, another));
        tasks.close();
        tasks.wait().await;
        assert_eq!(threads(&aside), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_of_one_core_has_a_thread_all_the_same() {
        let (aside, tasks) = (Aside::with_cores(1), TaskTracker::new());
        aside.quick_call();
        let _job = lines_up(&aside, &tasks);
        assert_eq!(threads(&aside), 1);
    }

    #[test]
    fn a_kind_that_takes_little_does_not_stand_behind_one_that_takes_much() {
        struct Takes(u64);

        impl Job for Takes {
            fn kind(&self) -> usize {
                self.0 as usize
            }

            fn run(self) {}
        }

        let aside = Aside::with_cores(1);
        let mut state = aside.lock();
        let take = |state: &mut State<Takes>| {
            let Takes(ms) = state.take().unwrap();
            state.kinds.get_mut(&(ms as usize)).unwrap().end += Duration::from_millis(ms);
            ms
        };
        for ms in [[5; 10], [1; 10]].concat() {
            state.line_up(Takes(ms));
        }
        let taken: Vec<_> = (0..12).map(|_| take(&mut state)).collect();
        assert_eq!(taken, [5, 1, 1, 1, 1, 1, 5, 1, 1, 1, 1, 1]);
        let rest: Vec<_> = (0..8).map(|_| take(&mut state)).collect();
        assert_eq!(rest, [5; 8]);
        // Nobody saves up time by staying away: they take turns from here on.
        for ms in [[5; 3], [1; 3]].concat() {
            state.line_up(Takes(ms));
        }
        let taken: Vec<_> = (0..4).map(|_| take(&mut state)).collect();
        assert!(taken.contains(&5), "{taken:?}");
        assert_eq!(state.waiting, 2);
    }

    #[tokio::test]
    async fn a_thread_that_a_job_ends_is_not_counted_any_more() {
        struct Panics;

        impl Job for Panics {
            fn kind(&self) -> usize {
                0
            }

            fn run(self) {
                panic!("as a drop of the user's may");
            }
        }

        let (aside, tasks) = (Aside::with_cores(1), TaskTracker::new());
        aside.line_up(Panics, &tasks);
        tasks.close();
        tasks.wait().await;
        assert_eq!(aside.lock().threads, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_thread_has_taken_can_be_taken_back() {
        let (aside, tasks) = (Aside::with_cores(1), TaskTracker::new());
        let (taken, ticket) = lines_up(&aside, &tasks);
        while aside.lock().waiting > 0 {
            tokio::task::yield_now().await;
        }
        assert!(aside.withdraw(ticket).is_none());
        let (_waits, ticket) = lines_up(&aside, &tasks);
        assert!(aside.withdraw(ticket).is_some());
        assert_eq!(aside.lock().waiting, 0);
        drop(taken);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_does_not_move_gets_another_thread() {
        let (aside, tasks) = (Aside::with_cores(1), TaskTracker::new());
        let first = lines_up(&aside, &tasks);
        while aside.lock().waiting > 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(STUCK).await;
        aside.help(&tasks);
        assert_eq!(threads(&aside), 1, "nobody waits");
        let second = lines_up(&aside, &tasks);
        aside.help(&tasks);
        assert_eq!(threads(&aside), 1, "it has only just come");
        tokio::time::advance(STUCK).await;
        aside.help(&tasks);
        assert_eq!(threads(&aside), 2);
        drop((first, second));
        tasks.close();
        tasks.wait().await;
        assert_eq!((threads(&aside), aside.lock().stuck), (0, 0));
    }
}
