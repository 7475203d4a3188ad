//! A method as the server keeps it: its handler, its figures, and whether it is quick.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::observe::stats::Stats;
use crate::service::handler::Handler;

/// A poll that keeps a core longer than this holds up the other calls of its connection: as long
/// as some hundred quick calls take, and far longer than handing a call to a task costs.
const SLOW_POLL: Duration = Duration::from_micros(100);
/// So many calls in a row must be quick before a method that was slow for once counts as quick again. A
/// busy machine makes any method look slow now and then, by running something else during a poll.
const FEWEST_DUE: u32 = 8;
/// So many where it is slow again and again.
const MOST_DUE: u32 = 256;
/// A method that was called so many times since it was last found slow has been quick for long. It tells
/// methods that burn in some of their calls, in one of a hundred perhaps, from quick ones on a busy
/// machine: one that takes a microsecond, interrupted 250 times a second, looks slow once in 4,000 calls.
const QUICK_FOR_LONG: u64 = 1024;

/// A method of the server.
pub(crate) struct Method {
    /// The full name, such as `Arith.multiply`.
    pub(crate) name: String,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) stats: Stats,
    /// Quick calls that are still due before calls are polled on the connection's task again.
    due: AtomicU32,
    /// How many were due when it was last found slow.
    was_due: AtomicU32,
    /// How many calls there had been by then.
    last_slow: AtomicU64,
}

impl Method {
    pub(crate) fn new(name: String, handler: Arc<dyn Handler>) -> Self {
        Self {
            name,
            handler,
            stats: Stats::default(),
            due: AtomicU32::new(0),
            was_due: AtomicU32::new(0),
            last_slow: AtomicU64::new(0),
        }
    }

    /// Whether its calls get tasks of their own from the start.
    pub(crate) fn is_slow(&self) -> bool {
        self.due.load(Relaxed) > 0
    }

    /// Takes note of how long one poll of a call took. True if that was too long.
    pub(crate) fn polled(&self, took: Duration) -> bool {
        let slow = took > SLOW_POLL;
        if slow {
            self.found_slow();
        }
        slow
    }

    /// Has calls run in tasks of their own until enough of them in a row were quick: twice as many as
    /// last time, or half as many where it has been quick for long.
    #[cold]
    fn found_slow(&self) {
        let calls = self.stats.calls();
        // Polls of several calls may be here at once: a doubling more or less makes no odds.
        let since = calls.saturating_sub(self.last_slow.swap(calls, Relaxed));
        let was_due = self.was_due.load(Relaxed);
        let due = if since < QUICK_FOR_LONG { was_due * 2 } else { was_due / 2 };
        let due = due.clamp(FEWEST_DUE, MOST_DUE);
        self.was_due.store(due, Relaxed);
        self.due.store(due, Relaxed);
    }

    /// Takes note of a call that ended, and that no poll of was too long.
    pub(crate) fn was_quick(&self) {
        if self.is_slow() {
            // Not by a load and a store, or a slow call in between would be forgotten.
            let _ = self.due.fetch_update(Relaxed, Relaxed, |due| due.checked_sub(1));
        }
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::handler::{Request, Response, ResponseFuture};

    struct Nothing;

    impl Handler for Nothing {
        fn call(&self, _request: Request) -> ResponseFuture {
            ResponseFuture::ready(Response::default())
        }
    }

    fn method() -> Method {
        Method::new("m".to_owned(), Arc::new(Nothing))
    }

    /// One call of one poll, as connections make it: whether it got a task of its own.
    fn call(method: &Method, burns: bool) -> bool {
        method.stats.started();
        let spawned = method.is_slow();
        let was_slow = method.polled(if burns { Duration::from_millis(5) } else { Duration::from_micros(5) });
        if spawned && !was_slow {
            method.was_quick();
        }
        spawned
    }

    /// How many quick calls in a row get tasks of their own.
    fn quick_calls_in_tasks(method: &Method) -> u32 {
        (0..).take_while(|_| call(method, false)).count() as u32
    }

    #[test]
    fn a_method_that_was_slow_once_is_soon_quick_again() {
        let method = method();
        assert!(!call(&method, false));
        assert!(!call(&method, true), "nobody could know");
        assert_eq!(quick_calls_in_tasks(&method), FEWEST_DUE);
        assert!(!call(&method, false));
    }

    #[test]
    fn a_method_that_is_slow_again_and_again_is_held_slow_for_longer() {
        let method = method();
        for due in [8, 16, 32, 64, 128, 256, 256, 256] {
            call(&method, true);
            assert_eq!(quick_calls_in_tasks(&method), due);
        }
    }

    #[test]
    fn a_method_that_burns_in_each_call_does_so_in_tasks_of_their_own() {
        let method = method();
        call(&method, true);
        assert!((0..1_000).all(|_| call(&method, true)));
        assert_eq!(quick_calls_in_tasks(&method), MOST_DUE);
    }

    #[test]
    fn a_quick_call_does_not_outweigh_a_slow_one_that_follows() {
        let method = method();
        call(&method, true);
        for _ in 0..FEWEST_DUE - 1 {
            assert!(call(&method, false));
        }
        assert!(call(&method, true));
        assert_eq!(quick_calls_in_tasks(&method), 2 * FEWEST_DUE);
    }

    #[test]
    fn a_method_that_has_been_quick_for_long_is_held_slow_for_less() {
        let method = method();
        for _ in 0..6 {
            call(&method, true);
        }
        for due in [128, 64, 32, 16, 8, 8] {
            for _ in 0..QUICK_FOR_LONG {
                call(&method, false);
            }
            call(&method, true);
            assert_eq!(method.due.load(Relaxed), due);
        }
    }

    /// How many of a million calls get tasks of their own: of all, and of those that burn. Each burns
    /// with the chance of one in `one_in`, by a fixed row of dice.
    fn in_tasks(one_in: u64) -> (f64, f64) {
        let method = method();
        let mut dice: u64 = 7;
        let (mut all, mut burning, mut burns) = (0, 0, 0);
        for _ in 0..1_000_000 {
            // Knuth's MMIX; its upper bits are the good ones.
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let burns_now = (dice >> 33).is_multiple_of(one_in);
            let spawned = u32::from(call(&method, burns_now));
            all += spawned;
            burns += u32::from(burns_now);
            burning += spawned * u32::from(burns_now);
        }
        (f64::from(all) / 1e6, f64::from(burning) / f64::from(burns))
    }

    #[test]
    fn a_method_that_burns_now_and_then_is_told_from_one_that_a_busy_machine_interrupts() {
        let (_, burning) = in_tasks(100);
        assert!(burning > 0.9, "{burning} of those that burn");
        let (all, _) = in_tasks(5_000);
        assert!(all < 0.005, "{all} of all");
    }
}
