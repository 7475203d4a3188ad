//! [`HandlerTurns`]: the time that the handlers of one connection are polled before its task, and so the tasks of others,
//! come in between.
//!
//! A burst of a thousand calls, or a thousand handlers that wake at the same moment, would otherwise stand in the
//! runtime's queue in one piece, and everything that becomes ready meanwhile behind it. Handlers of which the turn is over
//! wait here; the connection's task, which waits for its own turn in between, wakes them in small groups.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::limits::MAX_TURN;

/// The handlers that are woken in one full turn. They share its time; the rest of them keeps its place.
const HANDLERS_PER_TURN: u32 = 16;
/// The time that each poll takes from the turn beside its own, in nanoseconds: about that of the task around it.
const POLL_OVERHEAD: i64 = 1_000;

/// The turns of a connection's handlers. They have no end for calls that came over no connection: nothing would begin
/// the next one.
#[derive(Debug)]
pub(crate) struct HandlerTurns {
    /// The time that is left of this turn, in nanoseconds.
    left: AtomicI64,
    /// `true` if `waiting` may not be empty, to be read without the lock.
    has_waiting: AtomicBool,
    /// The handlers that wait for the next turn, bounded by the calls in flight.
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    wakers: VecDeque<Waker>,
    /// `true` once the connection has ended, and begins no more turns.
    closed: bool,
}

impl HandlerTurns {
    /// Creates a first turn without an end.
    pub(crate) const fn new() -> Self {
        Self {
            left: AtomicI64::new(i64::MAX),
            has_waiting: AtomicBool::new(false),
            waiting: Mutex::new(Waiting { wakers: VecDeque::new(), closed: false }),
        }
    }

    /// Returns `true` if a handler may be polled in this turn. Otherwise its task is woken in a later one, and the
    /// connection's task has to be told. `has_waited` is the handler's own: one that has waited before keeps its place.
    #[inline]
    pub(crate) fn try_begin(&self, cx: &Context<'_>, has_waited: &mut bool) -> bool {
        if self.left.load(Ordering::Relaxed) > 0 {
            *has_waited = false;
            return true;
        }
        self.wait(cx, has_waited)
    }

    #[cold]
    fn wait(&self, cx: &Context<'_>, has_waited: &mut bool) -> bool {
        let mut waiting = self.lock();
        if waiting.closed {
            return true;
        }
        let waker = cx.waker().clone();
        if std::mem::replace(has_waited, true) {
            waiting.wakers.push_front(waker);
        } else {
            waiting.wakers.push_back(waker);
        }
        self.has_waiting.store(true, Ordering::Release);
        false
    }

    /// Takes the time of a poll from this turn.
    #[inline]
    pub(crate) fn spend(&self, took: Duration) {
        let took = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
        self.left.fetch_sub(took + POLL_OVERHEAD, Ordering::Relaxed);
    }

    /// Begins the next turn, of this length, and wakes handlers that wait for it. Returns `true` if others are left.
    #[inline]
    pub(crate) fn begin(&self, length: Duration) -> bool {
        let nanos = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
        self.left.store(nanos, Ordering::Relaxed);
        self.has_waiting.load(Ordering::Acquire) && self.wake_some(length)
    }

    /// Wakes as many as are due in a turn of this length.
    #[cold]
    fn wake_some(&self, length: Duration) -> bool {
        let due = (length * HANDLERS_PER_TURN).as_nanos() / MAX_TURN.as_nanos();
        let (woken, is_left) = {
            let wakers = &mut self.lock().wakers;
            let count = wakers.len().min(usize::try_from(due).unwrap_or(usize::MAX).max(1));
            let woken: Vec<Waker> = wakers.drain(..count).collect();
            self.has_waiting.store(!wakers.is_empty(), Ordering::Release);
            (woken, !wakers.is_empty())
        };
        // After unlocking: a waker may run other code.
        woken.into_iter().for_each(Waker::wake);
        is_left
    }

    /// Releases the memory for handlers that have waited.
    pub(crate) fn release_memory(&self) {
        self.lock().wakers.shrink_to_fit();
    }

    /// Ends the turns with the connection: what waits is woken, and nothing waits any more.
    pub(crate) fn close(&self) {
        let wakers = {
            let mut waiting = self.lock();
            waiting.closed = true;
            std::mem::take(&mut waiting.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// No user code runs under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    const TURN: Duration = MAX_TURN;
    const GROUP: usize = HANDLERS_PER_TURN as usize;

    /// A task that counts how often it was woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Task {
        fn try_begin(self: &Arc<Self>, turns: &HandlerTurns, has_waited: &mut bool) -> bool {
            turns.try_begin(&Context::from_waker(&Waker::from(Arc::clone(self))), has_waited)
        }

        fn woken(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// Turns of which nothing is left, and this many tasks that wait.
    fn exhausted(tasks: usize) -> (HandlerTurns, Vec<Arc<Task>>) {
        let turns = HandlerTurns::new();
        turns.begin(TURN);
        turns.spend(TURN);
        let tasks: Vec<Arc<Task>> = (0..tasks).map(|_| Arc::default()).collect();
        assert!(tasks.iter().all(|task| !task.try_begin(&turns, &mut false)));
        (turns, tasks)
    }

    #[test]
    fn first_turn_has_no_end() {
        let turns = HandlerTurns::new();
        turns.spend(Duration::from_secs(3600));
        assert!(Arc::<Task>::default().try_begin(&turns, &mut false));
        assert!(!turns.begin(TURN));
    }

    #[test]
    fn turn_ends_by_the_time_of_its_polls() {
        let turns = HandlerTurns::new();
        turns.begin(TURN);
        let mut polls = 0;
        while Arc::<Task>::default().try_begin(&turns, &mut false) {
            turns.spend(Duration::from_micros(19));
            polls += 1;
        }
        assert_eq!(polls, 10);
    }

    #[test]
    fn groups_are_woken_in_order() {
        let (turns, tasks) = exhausted(2 * GROUP + 1);
        let woken = || tasks.iter().take_while(|task| task.woken() == 1).count();
        assert!(turns.begin(TURN));
        assert_eq!(woken(), GROUP);
        assert!(turns.begin(TURN));
        assert!(!turns.begin(TURN), "none is left");
        assert_eq!(woken(), tasks.len());
        assert!(!turns.begin(TURN));
    }

    #[test]
    fn short_turn_wakes_few() {
        let (turns, tasks) = exhausted(GROUP);
        let woken = || tasks.iter().take_while(|task| task.woken() == 1).count();
        for (length, expected) in [(TURN / 8, 2), (TURN / 4, 6), (Duration::from_nanos(1), 7)] {
            turns.begin(length);
            assert_eq!(woken(), expected);
        }
    }

    #[test]
    fn handler_for_which_no_time_was_left_keeps_its_place() {
        let (turns, tasks) = exhausted(GROUP + 1);
        assert!(turns.begin(TURN));
        turns.spend(TURN);
        assert!(!tasks[0].try_begin(&turns, &mut true));
        turns.begin(TURN);
        assert_eq!(tasks[0].woken(), 2, "before those that came later");
    }

    #[test]
    fn nothing_waits_for_a_connection_that_has_ended() {
        let (turns, tasks) = exhausted(100);
        turns.close();
        assert!(tasks.iter().all(|task| task.woken() == 1));
        assert!(tasks[0].try_begin(&turns, &mut false));
        assert!(!turns.begin(TURN));
    }
}
