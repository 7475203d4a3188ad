//! [`Environment`]: the channels that are open while a command runs, so that Ctrl-C can cancel what is under way.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farcall::Channel;
use tokio::time::timeout;

/// The time that the channels have at the end to send what is queued, such as cancellations.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// The things that outlive a command that is dropped.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    channels: Mutex<Vec<Channel>>,
}

impl Environment {
    /// Keeps a channel until the program ends.
    pub(crate) fn keep(&self, channel: &Channel) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).push(channel.clone());
    }

    /// Closes the channels, once they have sent what is queued.
    pub(crate) async fn close(&self) {
        let channels = std::mem::take(&mut *self.channels.lock().unwrap_or_else(PoisonError::into_inner));
        let closing = channels.into_iter().map(|channel| async move {
            // A connection that is gone needs no farewell.
            let _ = channel.close().await;
        });
        let _ = timeout(CLOSE_TIMEOUT, futures::future::join_all(closing)).await;
    }
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};

    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        // Both arms only wait for a signal, which is not lost if the other one comes first.
        outcome = tokio::signal::ctrl_c() => {
            if outcome.is_err() {
                std::future::pending::<()>().await;
            }
        }
        _ = terminated => {}
    }
}
