//! [`Method`]: a handler, its statistics, and the judgement if its calls are quick.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::observe::stats::Stats;
use crate::service::handler::Handler;

/// A poll that takes longer holds up the other calls of its connection: it takes as long as about a
/// hundred quick calls, and far longer than to give the call a task.
const MAX_QUICK_POLL: Duration = Duration::from_micros(100);
/// The number of calls in a row that must be quick before a method that was slow once counts as quick
/// again. A busy machine makes any method look slow now and then, by running something else during a
/// poll.
const MIN_QUICK_CALLS_DUE: u32 = 8;
/// The same for a method that is slow again and again.
const MAX_QUICK_CALLS_DUE: u32 = 256;
/// A method with this many calls since it was last found slow has been quick for long. This
/// distinguishes methods that are slow in some of their calls, one of a hundred perhaps, from quick ones
/// on a busy machine: one that takes a microsecond, interrupted 250 times a second, looks slow once in
/// 4,000 calls.
const QUICK_FOR_LONG: u64 = 1024;

/// A method of the server.
pub(crate) struct Method {
    /// The full name, such as `Arith.multiply`.
    pub(crate) name: String,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) stats: Stats,
    /// The quick calls that are missing until calls are polled on the connection's task again.
    quick_calls_due: AtomicU32,
    /// The value of `quick_calls_due` when it was last found slow.
    last_due: AtomicU32,
    /// The number of calls by then.
    calls_when_slow: AtomicU64,
}

impl Method {
    pub(crate) fn new(name: String, handler: Arc<dyn Handler>) -> Self {
        Self {
            name,
            handler,
            stats: Stats::default(),
            quick_calls_due: AtomicU32::new(0),
            last_due: AtomicU32::new(0),
            calls_when_slow: AtomicU64::new(0),
        }
    }

    /// Returns `true` if its calls get a task before their first poll.
    pub(crate) fn is_slow(&self) -> bool {
        self.quick_calls_due.load(Relaxed) > 0
    }

    /// Records the time of one poll. Returns `true` if it was too long.
    pub(crate) fn polled(&self, took: Duration) -> bool {
        let slow = took > MAX_QUICK_POLL;
        if slow {
            self.mark_slow();
        }
        slow
    }

    /// Gives all calls tasks until enough of them in a row were quick: twice as many as last time, or
    /// half as many if it has been quick for long.
    #[cold]
    fn mark_slow(&self) {
        let calls = self.stats.calls();
        // Racing polls may double once too often or too rarely, which does not matter.
        let since = calls.saturating_sub(self.calls_when_slow.swap(calls, Relaxed));
        let last_due = self.last_due.load(Relaxed);
        let due = if since < QUICK_FOR_LONG { last_due * 2 } else { last_due / 2 };
        let due = due.clamp(MIN_QUICK_CALLS_DUE, MAX_QUICK_CALLS_DUE);
        self.last_due.store(due, Relaxed);
        self.quick_calls_due.store(due, Relaxed);
    }

    /// Records a call that has ended without a slow poll.
    pub(crate) fn was_quick(&self) {
        if self.is_slow() {
            // Not by a load and a store, or a slow call in between would be lost.
            let _ = self.quick_calls_due.fetch_update(Relaxed, Relaxed, |due| due.checked_sub(1));
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

    /// Makes one call of one poll, as connections do. Returns `true` if it got a task.
    fn call(method: &Method, is_slow: bool) -> bool {
        method.stats.started();
        let spawned = method.is_slow();
        let was_slow =
            method.polled(if is_slow { Duration::from_millis(5) } else { Duration::from_micros(5) });
        if spawned && !was_slow {
            method.was_quick();
        }
        spawned
    }

    /// Counts the quick calls in a row that get tasks.
    fn quick_calls_in_tasks(method: &Method) -> u32 {
        (0..).take_while(|_| call(method, false)).count() as u32
    }

    #[test]
    fn method_that_was_slow_once_is_soon_quick_again() {
        let method = method();
        assert!(!call(&method, false));
        assert!(!call(&method, true), "it was not slow before");
        assert_eq!(quick_calls_in_tasks(&method), MIN_QUICK_CALLS_DUE);
        assert!(!call(&method, false));
    }

    #[test]
    fn method_that_is_slow_again_and_again_counts_as_slow_for_longer() {
        let method = method();
        for due in [8, 16, 32, 64, 128, 256, 256, 256] {
            call(&method, true);
            assert_eq!(quick_calls_in_tasks(&method), due);
        }
    }

    #[test]
    fn method_that_is_slow_in_each_call_gets_tasks_for_all() {
        let method = method();
        call(&method, true);
        assert!((0..1_000).all(|_| call(&method, true)));
        assert_eq!(quick_calls_in_tasks(&method), MAX_QUICK_CALLS_DUE);
    }

    #[test]
    fn quick_calls_do_not_outweigh_a_slow_one_that_follows() {
        let method = method();
        call(&method, true);
        for _ in 0..MIN_QUICK_CALLS_DUE - 1 {
            assert!(call(&method, false));
        }
        assert!(call(&method, true));
        assert_eq!(quick_calls_in_tasks(&method), 2 * MIN_QUICK_CALLS_DUE);
    }

    #[test]
    fn method_that_has_been_quick_for_long_counts_as_slow_for_less() {
        let method = method();
        for _ in 0..6 {
            call(&method, true);
        }
        for due in [128, 64, 32, 16, 8, 8] {
            for _ in 0..QUICK_FOR_LONG {
                call(&method, false);
            }
            call(&method, true);
            assert_eq!(method.quick_calls_due.load(Relaxed), due);
        }
    }

    /// Returns the shares of a million calls that get tasks: of all, and of the slow ones. Each is slow
    /// with the chance of one in `one_in`, by a seeded generator.
    fn in_tasks(one_in: u64) -> (f64, f64) {
        let method = method();
        let mut random: u64 = 7;
        let (mut all, mut slow_in_tasks, mut slow) = (0, 0, 0);
        for _ in 0..1_000_000 {
            // Knuth's MMIX; its upper bits are the good ones.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let is_slow = (random >> 33).is_multiple_of(one_in);
            let spawned = u32::from(call(&method, is_slow));
            all += spawned;
            slow += u32::from(is_slow);
            slow_in_tasks += spawned * u32::from(is_slow);
        }
        (f64::from(all) / 1e6, f64::from(slow_in_tasks) / f64::from(slow))
    }

    #[test]
    fn occasionally_slow_methods_are_distinguished_from_interrupted_ones() {
        let (_, slow) = in_tasks(100);
        assert!(slow > 0.9, "{slow} of the slow ones");
        let (all, _) = in_tasks(5_000);
        assert!(all < 0.005, "{all} of all");
    }
}
