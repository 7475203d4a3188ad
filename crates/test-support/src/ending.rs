//! Ends of what a test runs, after which none of it is left.
//!
//! A runtime that shuts down in the background, or a task that is aborted, may still answer a call. What a test asserts
//! then depends on which thread is quicker.

use std::mem;
use std::sync::Mutex;

use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Ends a runtime without a goodbye of its tasks, as a killed process does. When this returns, all of them are dropped,
/// and their sockets are closed. It may be called in another runtime.
///
/// # Panics
///
/// A task panics while it is dropped.
pub fn end_runtime(runtime: Runtime) {
    // On a separate thread: one runtime must not block in another.
    std::thread::scope(|scope| scope.spawn(|| drop(runtime)).join()).unwrap();
}

/// The open connections of a relay, which can be ended together.
#[derive(Default)]
pub struct OpenConnections(Mutex<watch::Sender<bool>>);

impl OpenConnections {
    /// Adds a connection to those that the next [`end`](Self::end) ends.
    pub fn join(&self) -> OpenConnection {
        OpenConnection(self.0.lock().unwrap().subscribe())
    }

    /// Ends all that have joined. When this returns, none of them carries a byte any more.
    pub async fn end(&self) {
        let ended = mem::take(&mut *self.0.lock().unwrap());
        ended.send_replace(true);
        ended.closed().await;
    }
}

/// One of the [`OpenConnections`].
pub struct OpenConnection(watch::Receiver<bool>);

impl OpenConnection {
    /// Runs `relaying` until it is ready, or all connections are ended.
    pub async fn run(mut self, relaying: impl Future) {
        // What relays is dropped first, and the receiver, for which the end waits, last.
        tokio::select! {
            biased;
            _ = self.0.wait_for(|ended| *ended) => {}
            _ = relaying => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::runtime::Builder;
    use tokio::sync::oneshot;

    use super::*;

    /// Records that it was dropped, after a while in which others could run.
    struct SlowDrop(Arc<AtomicBool>);

    impl Drop for SlowDrop {
        fn drop(&mut self) {
            std::thread::sleep(std::time::Duration::from_millis(20));
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn ended_runtime_has_dropped_its_tasks() {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (dropped, (begun, begins)) = (Arc::<AtomicBool>::default(), oneshot::channel());
        let held = SlowDrop(Arc::clone(&dropped));
        runtime.spawn(async move {
            begun.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(held);
        });
        begins.await.unwrap();
        end_runtime(runtime);
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn ended_connections_have_dropped_what_relays() {
        let connections = OpenConnections::default();
        for _ in 0..2 {
            let dropped = Arc::<AtomicBool>::default();
            let held = SlowDrop(Arc::clone(&dropped));
            let relaying = tokio::spawn(connections.join().run(async move {
                std::future::pending::<()>().await;
                drop(held);
            }));
            connections.end().await;
            assert!(dropped.load(Ordering::SeqCst));
            relaying.await.unwrap();
        }
    }
}
