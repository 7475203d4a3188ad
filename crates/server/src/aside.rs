//! Threads for what keeps one busy, beside those that run connections.
//!
//! They are threads of tokio's for blocking operations, taken while there is work and given back
//! after it. What is done there, and what becomes of it, is for [`crate::connection`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// What keeps a thread busy.
pub(crate) trait Job: Send + 'static {
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
    /// What no thread has taken yet, in its order. Bounded by the calls in flight: each has one
    /// job at a time, and takes it back where it is stopped.
    line: BTreeMap<Ticket, J>,
    last_ticket: Ticket,
    threads: usize,
    /// Threads that are taken to be waiting rather than working.
    stuck: usize,
    /// When a job was last taken, or the line was helped along.
    moved: Instant,
    quick_seen: Option<Instant>,
}

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

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
            line: BTreeMap::new(),
            last_ticket: Ticket(0),
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
        if state.line.is_empty() {
            state.moved = now;
        }
        state.last_ticket.0 += 1;
        let ticket = state.last_ticket;
        state.line.insert(ticket, job);
        self.add_thread(state, now, tasks);
        ticket
    }

    /// Takes a job back that no thread has taken yet.
    pub(crate) fn withdraw(&self, ticket: Ticket) -> Option<J> {
        self.lock().line.remove(&ticket)
    }

    /// Helps the line along where it does not move, for whoever has stood in it for [`STUCK`].
    pub(crate) fn help(self: &Arc<Self>, tasks: &TaskTracker) {
        let mut state = self.lock();
        let now = Instant::now();
        if !state.line.is_empty() && now - state.moved >= STUCK {
            state.moved = now;
            state.stuck = (state.stuck + 1).min(state.threads);
        }
        self.add_thread(state, now, tasks);
    }

    fn add_thread(self: &Arc<Self>, mut state: MutexGuard<'_, State<J>>, now: Instant, tasks: &TaskTracker) {
        if state.line.is_empty() || state.threads >= self.most_threads(&mut state, now) {
            return;
        }
        state.threads += 1;
        drop(state);
        let aside = Arc::clone(self);
        tasks.spawn_blocking(move || aside.work(now));
    }

    /// A thread's whole stay. One job follows on the other here, since to wake a thread for each
    /// would take as long as some of them do.
    fn work(&self, spawned: Instant) {
        let mut began = spawned;
        while let Some((job, now)) = self.next(began) {
            began = now;
            job.run();
        }
    }

    /// The next job for a thread that was busy since `began`, and what time it is. None where the
    /// thread is to go.
    fn next(&self, began: Instant) -> Option<(J, Instant)> {
        let mut state = self.lock();
        let now = Instant::now();
        if now - began >= STUCK {
            state.stuck = state.stuck.saturating_sub(1);
        }
        if state.threads <= self.most_threads(&mut state, now)
            && let Some((_, job)) = state.line.pop_first()
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Ends when nobody can send to it any more.
    struct Blocks(mpsc::Receiver<()>);

    impl Job for Blocks {
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

    #[tokio::test(start_paused = true)]
    async fn what_no_thread_has_taken_can_be_taken_back() {
        let (aside, tasks) = (Aside::with_cores(1), TaskTracker::new());
        let (taken, ticket) = lines_up(&aside, &tasks);
        while !aside.lock().line.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(aside.withdraw(ticket).is_none());
        let (_waits, ticket) = lines_up(&aside, &tasks);
        assert!(aside.withdraw(ticket).is_some());
        assert!(aside.lock().line.is_empty());
        drop(taken);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_does_not_move_gets_another_thread() {
        let (aside, tasks) = (Aside::with_cores(1), TaskTracker::new());
        let first = lines_up(&aside, &tasks);
        while !aside.lock().line.is_empty() {
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
