//! [`Workers`]: the polls that servers move to other threads, run one by one on the thread of the simulation.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farcall::server::OffloadRuntime;
use tokio::sync::Notify;
use tokio::time::Instant;

type Work = Box<dyn FnOnce() + Send>;

/// The workers that wait to run. Cloning is cheap, and clones share them.
#[derive(Clone, Default)]
pub(crate) struct Workers {
    waiting: Arc<Mutex<VecDeque<Work>>>,
    added: Arc<Notify>,
}

/// The cores that a server in a simulation believes to have.
const CORES: usize = 2;

impl Workers {
    /// Waits until there are some.
    pub(crate) async fn added(&self) {
        // It keeps one notification, so that none is missed.
        self.added.notified().await;
    }

    /// Runs those that wait, outside of the runtime, which they enter by themselves.
    pub(crate) fn run(&self) {
        loop {
            let Some(work) = self.lock().pop_front() else { return };
            work();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Work>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OffloadRuntime for Workers {
    fn cores(&self) -> usize {
        CORES
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn spawn_worker(&self, worker: Work) {
        self.lock().push_back(worker);
        self.added.notify_one();
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("waiting", &self.lock().len()).finish()
    }
}
