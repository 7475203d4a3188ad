//! Leases: how long an instance stays registered without a heartbeat, and the moment that this is counted from.
//!
//! When a lease ends is decided in [`Store`](super::Store); the order of deadlines is in [`expiry`](super::expiry).

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::Timestamp;

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct Now {
    /// The monotonic clock, by which leases expire.
    pub(in crate::server) at: Instant,
    /// The wall clock, for display only.
    pub(in crate::server) clock: Timestamp,
}

impl Now {
    /// Reads both clocks.
    pub(in crate::server) fn read() -> Self {
        Self { at: Instant::now(), clock: Timestamp::now() }
    }
}

/// The times of instances that request no time to live.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct LeaseDefaults {
    /// The time to live.
    pub(in crate::server) ttl: Duration,
    /// The interval between heartbeats.
    pub(in crate::server) heartbeat: Duration,
}

/// The time that a registration or a heartbeat was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct LeaseGrant {
    /// The time that the instance stays registered without a further heartbeat.
    pub(in crate::server) ttl: Duration,
    /// `true` if the instance requested this time to live.
    pub(in crate::server) requested: bool,
}

impl LeaseGrant {
    /// Returns the interval between heartbeats: `default` if the instance requested no time to live, else a
    /// third of it, so that two heartbeats in a row may be lost.
    pub(in crate::server) fn heartbeat(&self, default: Duration) -> Duration {
        if self.requested { self.ttl / 3 } else { default }
    }
}
