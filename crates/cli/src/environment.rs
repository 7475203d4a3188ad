//! [`Environment`]: the channels that are open while a command runs, so that Ctrl-C can cancel what is under way, and the
//! items of a streaming call, so that it can say how many there were.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use farcall::Channel;
use tokio::time::timeout;

/// The time that the channels have at the end to send what is queued, such as cancellations.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// The things that outlive a command that is dropped.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    channels: Mutex<Vec<Channel>>,
    /// Set once a streaming call is made.
    items: OnceLock<ItemCounts>,
}

/// The items of a streaming call so far.
#[derive(Debug, Default)]
pub(crate) struct ItemCounts {
    sent: AtomicU64,
    received: AtomicU64,
}

impl ItemCounts {
    /// Counts an item that was sent.
    pub(crate) fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an item that was received.
    pub(crate) fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for ItemCounts {
    /// Writes `3 received`, or `3 received, 7 sent` if any were sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} received", self.received.load(Ordering::Relaxed))?;
        match self.sent.load(Ordering::Relaxed) {
            0 => Ok(()),
            sent => write!(f, ", {sent} sent"),
        }
    }
}

impl Environment {
    /// Keeps a channel until the program ends.
    pub(crate) fn keep(&self, channel: &Channel) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).push(channel.clone());
    }

    /// Returns the counts of the items of a streaming call that begins.
    pub(crate) fn count_items(&self) -> &ItemCounts {
        self.items.get_or_init(ItemCounts::default)
    }

    /// Returns the items so far, if there is a streaming call.
    pub(crate) fn items(&self) -> Option<String> {
        self.items.get().map(ToString::to_string)
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
