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

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn signal_arrives_at_all_clones_and_all_that_wait() {
        let signal = DrainSignal::new();
        let clone = signal.clone();
        let mut waiting = pin!(clone.sent());
        let mut running = pin!(clone.run_until_sent(pending::<u8>()));
        assert!(poll(waiting.as_mut()).is_pending() && poll(running.as_mut()).is_pending());
        assert!(!clone.is_sent());
        signal.send();
        assert!(clone.is_sent());
        assert!(poll(waiting).is_ready());
        assert_eq!(poll(running), Poll::Ready(None));
    }

    #[test]
    fn future_runs_until_the_signal() {
        let signal = DrainSignal::new();
        assert_eq!(poll(pin!(signal.run_until_sent(ready(7)))), Poll::Ready(Some(7)));
        signal.send();
        assert_eq!(poll(pin!(signal.run_until_sent(ready(7)))), Poll::Ready(None));
    }
}
