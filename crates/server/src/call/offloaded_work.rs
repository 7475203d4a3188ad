//! [`offload`]: work of no handler, such as checking a large text, where slow handlers are polled.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::fair_queue::{Flow, Ticket};
use super::offload::Job;
use crate::server::state::ServerState;

/// Work as a job of the offload pool.
struct OffloadedWork {
    flow: Flow,
    work: Box<dyn FnOnce() + Send>,
}

/// Takes the work out of the queue when this is dropped, unless a thread has taken it.
struct QueuedWork<'a> {
    server: &'a ServerState,
    ticket: Ticket,
}

/// Does the work on a thread of the pool. `None` if it panicked, or the runtime has ended.
pub(crate) async fn offload<T: Send + 'static>(
    server: Arc<ServerState>,
    flow: Flow,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, mut done) = oneshot::channel();
    let work = Box::new(move || {
        // Nothing waits for it any more if this fails.
        let _ = sender.send(work());
    });
    let ticket = server.offload.enqueue(Box::new(OffloadedWork { flow, work }), &server.tasks);
    let _queued = QueuedWork { server: &server, ticket };
    server.offload.wait(&mut done, &server.tasks).await.ok()
}

impl Job for OffloadedWork {
    fn flow(&self) -> Flow {
        self.flow
    }

    fn is_short(&self) -> bool {
        // As far as is known: texts have limits.
        true
    }

    fn run(self: Box<Self>) {
        (self.work)();
    }

    fn cancel(self: Box<Self>) {}
}

impl Drop for QueuedWork<'_> {
    fn drop(&mut self) {
        self.server.offload.cancel(self.ticket);
    }
}
