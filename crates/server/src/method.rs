//! A method as the server keeps it: its handler, its figures, and whether it is quick.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::handler::Handler;
use crate::stats::Stats;

/// A poll that keeps a core longer than this holds up the other calls of its connection: as long
/// as some hundred quick calls take, and far longer than handing a call to a task costs.
const SLOW_POLL: Duration = Duration::from_micros(100);
/// So many calls in a row must be quick before a method that was slow counts as quick again.
const QUICK_AGAIN: u32 = 256;

/// A method of the server.
pub(crate) struct Method {
    /// The full name, such as `Arith.multiply`.
    pub(crate) name: String,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) stats: Stats,
    /// Quick calls that are still due before calls are polled on the connection's task again.
    slow: AtomicU32,
}

impl Method {
    pub(crate) fn new(name: String, handler: Arc<dyn Handler>) -> Self {
        Self { name, handler, stats: Stats::default(), slow: AtomicU32::new(0) }
    }

    /// Whether its calls get tasks of their own from the start.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Relaxed) > 0
    }

    /// Takes note of how long one poll of a call took. True if that was too long.
    pub(crate) fn polled(&self, took: Duration) -> bool {
        let slow = took > SLOW_POLL;
        if slow {
            self.slow.store(QUICK_AGAIN, Relaxed);
        }
        slow
    }

    /// Takes note of a call that ended, and that no poll of was too long.
    pub(crate) fn was_quick(&self) {
        if self.is_slow() {
            // Not by a load and a store, or a slow call in between would be forgotten.
            let _ = self.slow.fetch_update(Relaxed, Relaxed, |due| due.checked_sub(1));
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
    use crate::handler::{Reply, Request, Response};

    struct Nothing;

    impl Handler for Nothing {
        fn call(&self, _request: Request) -> Reply {
            Reply::ready(Response::default())
        }
    }

    #[test]
    fn a_slow_method_is_quick_again_after_enough_quick_calls() {
        let method = Method::new("m".to_owned(), Arc::new(Nothing));
        assert!(!method.polled(Duration::from_micros(5)));
        assert!(!method.is_slow());
        assert!(method.polled(Duration::from_millis(5)));
        for _ in 0..QUICK_AGAIN {
            assert!(method.is_slow());
            method.was_quick();
        }
        assert!(!method.is_slow());
    }
}
