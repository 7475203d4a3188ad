//! [`DrainSignal`]: notifies the handlers of calls that their server drains.

use std::sync::Arc;

use tokio::sync::watch;

/// The signal that a server drains. It is sent once; clones share it.
#[derive(Clone, Debug, Default)]
pub struct DrainSignal(Arc<watch::Sender<bool>>);

impl DrainSignal {
    /// Creates a signal that is not sent yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends the signal.
    pub fn send(&self) {
        self.0.send_replace(true);
    }

    /// Returns `true` if the signal was sent.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the signal; ready at once if it was sent already. Cancel-safe.
    pub async fn sent(&self) {
        // An error would mean that all senders are gone, and `self` is one.
        let _ = self.0.subscribe().wait_for(|sent| *sent).await;
    }

    /// Runs `future` until it is ready or the signal is sent; returns `None` in the latter case.
    pub async fn run_until_sent<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.sent() => None,
            output = future => Some(output),
        }
    }
}
