//! [`HalfClose`]: whether a peer has closed its half of the connection, and the time that its calls then have.

use std::time::Duration;

use farcall_protocol::time::{MAX_WAIT, later};
use tokio::time::Instant;

use super::end::End;
use crate::limits::DRAIN_PROBE;

/// The state of the peer's half of a connection.
#[derive(Debug, Default)]
pub(super) struct HalfClose {
    has_happened: bool,
    /// When the peer's calls must have ended.
    deadline: Option<Instant>,
}

impl HalfClose {
    /// Returns `true` once the peer has closed its half.
    pub(super) const fn has_happened(&self) -> bool {
        self.has_happened
    }

    /// Notes that the peer has closed its half. Returns when its calls must have ended, if there is a limit.
    pub(super) fn note(&mut self, limit: Option<Duration>) -> Option<Instant> {
        self.has_happened = true;
        if let Some(limit) = limit {
            self.deadline = Some(later(Instant::now(), limit));
        }
        self.deadline
    }

    /// Returns the time of the next check, or probe while the connection drains.
    ///
    /// # Errors
    ///
    /// The calls did not end in time.
    pub(super) fn check(&self, now: Instant, is_draining: bool) -> Result<Instant, End> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(End::Dead("its calls did not end in time after it had closed its half"));
        }
        let probe = self.has_happened && is_draining;
        let next = later(now, if probe { DRAIN_PROBE } else { MAX_WAIT });
        Ok(self.deadline.map_or(next, |deadline| next.min(deadline)))
    }
}
