//! Tasks on the event loop of the page.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::{self, AbortHandle as Abort, RemoteHandle};

/// Runs a future on the event loop of this page or worker, beginning with a later turn of it.
///
/// Dropping the handle lets the task go on.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (future, abort) = future::abortable(future);
    let (task, outcome) = future.remote_handle();
    wasm_bindgen_futures::spawn_local(task);
    JoinHandle { outcome: Some(outcome), abort: AbortHandle(abort) }
}

/// The owner's side of a task: awaits its outcome, and aborts it.
#[derive(Debug)]
pub struct JoinHandle<T: 'static> {
    /// Taken only by the drop: what it is part of cancels the task when it is dropped, which a handle of tokio does not.
    outcome: Option<RemoteHandle<Result<T, future::Aborted>>>,
    abort: AbortHandle,
}

impl<T> JoinHandle<T> {
    /// Stops the task at its next await.
    pub fn abort(&self) {
        self.abort.abort();
    }

    /// Returns a handle that only aborts the task.
    pub fn abort_handle(&self) -> AbortHandle {
        self.abort.clone()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.outcome {
            Some(outcome) => {
                outcome.poll_unpin(cx).map(|outcome| outcome.map_err(|future::Aborted| JoinError))
            }
            None => Poll::Ready(Err(JoinError)),
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            outcome.forget();
        }
    }
}

/// Aborts a task.
#[derive(Debug, Clone)]
pub struct AbortHandle(Abort);

impl AbortHandle {
    /// Stops the task at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }
}

/// A task that was aborted. One that panics ends the whole program here.
#[derive(Debug)]
pub struct JoinError;

impl JoinError {
    /// Returns itself: a panic ends the whole program, so a task ends without an outcome only if it was aborted.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        Err(self)
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was aborted")
    }
}

impl std::error::Error for JoinError {}
