//! [`Progress`]: how far the outgoing stream was written, and how the connection has ended; callers can wait for
//! both.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[cfg(not(all(test, shuttle)))]
use futures::task::AtomicWaker;
#[cfg(not(all(test, shuttle)))]
use tokio::sync::Notify;

#[cfg(all(test, shuttle))]
use super::models::steps::{AtomicWaker, Notify};

/// The progress of a connection's outgoing stream. Positions are numbers of bytes since its beginning.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The bytes that the stream has accepted.
    written: AtomicU64,
    /// The part of them that was flushed too, so that no layer above the socket holds any of it.
    flushed: AtomicU64,
    /// `true` if the task has taken messages without a position that may not be flushed yet.
    control_taken: AtomicBool,
    /// `true` if a caller waits for bytes to be flushed.
    wanted: AtomicBool,
    /// Notified when bytes were flushed that a caller waits for, and when the connection ends.
    changed: Notify,
    ended: OnceLock<End>,
}

/// The end of a connection.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) reason: String,
    pub(super) kind: EndKind,
}

/// The kinds of ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndKind {
    /// The server has closed it.
    Closed,
    /// A failure, or the end of a time limit.
    Broken,
    /// The end of its task, whose runtime was shut down.
    Orphaned,
}

/// The task's side.
impl Progress {
    /// Counts bytes that the stream has accepted.
    pub(super) fn add_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the number of bytes that the stream has accepted.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Notes that all bytes that the task has taken were flushed.
    pub(super) fn set_flushed(&self) {
        self.control_taken.store(false, Ordering::Relaxed);
        self.flushed.store(self.written(), Ordering::Release);
    }

    /// Notes that the task has taken messages without a position in the stream.
    pub(super) fn set_control_taken(&self) {
        self.control_taken.store(true, Ordering::Release);
    }

    /// Returns `true` if a caller waits for bytes to be flushed.
    pub(super) fn is_flush_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Wakes the callers that wait for bytes to be flushed; those whose bytes were not yet wait again.
    pub(super) fn notify_flushed(&self) {
        self.wanted.store(false, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Sets how the connection has ended. Only the first end counts. [`Progress::notify_ended`] has to follow.
    pub(super) fn set_ended(&self, end: End) {
        let _ = self.ended.set(end);
    }

    /// Wakes all that wait.
    pub(super) fn notify_ended(&self) {
        self.changed.notify_waiters();
    }
}

/// The callers' side.
impl Progress {
    /// Returns how the connection has ended; `None` while it has not.
    pub(super) fn ended(&self) -> Option<&End> {
        self.ended.get()
    }

    /// Returns `true` if the stream was flushed up to `end`.
    pub(super) fn is_flushed(&self, end: u64) -> bool {
        self.flushed.load(Ordering::Acquire) >= end
    }

    /// Returns `true` if no message without a position waits to be flushed that the task has taken.
    pub(super) fn is_control_flushed(&self) -> bool {
        !self.control_taken.load(Ordering::Acquire)
    }

    /// Waits until `is_flushed` returns `true`. Returns `false` if the connection ended before. `task` wakes the connection's
    /// task.
    pub(super) async fn until_flushed(&self, is_flushed: impl Fn(&Self) -> bool, task: &AtomicWaker) -> bool {
        loop {
            // Created before the check, so that progress in between is noticed.
            let changed = self.changed.notified();
            if is_flushed(self) {
                return true;
            }
            if self.ended().is_some() {
                // It may have been flushed just before.
                return is_flushed(self);
            }
            self.wanted.store(true, Ordering::Release);
            // The task may have found nothing to write before it could see what is wanted.
            task.wake();
            changed.await;
        }
    }

    /// Waits until the connection has ended.
    pub(super) async fn until_ended(&self) -> &End {
        loop {
            let changed = self.changed.notified();
            if let Some(end) = self.ended() {
                return end;
            }
            changed.await;
        }
    }
}
