//! [`OpenProgress`]: how far the opening of a connection has come, for calls that wait for it no longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farcall_transport::{DialProgress, HumanDuration};

use crate::error::Phase;

/// The beginning of a sentence about a peer that accepts connections and says nothing: a program that is suspended, or
/// that has bound its port and serves nothing yet.
pub(super) const NO_HANDSHAKE: &str = "it accepted the connection, and did not answer the handshake";

/// The progress of opening a connection. A clone refers to the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenProgress {
    pub(super) dial: DialProgress,
    /// `true` once this side has begun the handshake.
    handshake: Arc<AtomicBool>,
}

impl OpenProgress {
    pub(super) fn start_handshake(&self) {
        self.handshake.store(true, Ordering::Relaxed);
    }

    /// Returns a number that grows with the progress.
    pub(super) fn stage(&self) -> u8 {
        u8::from(self.dial.has_connected()) + u8::from(self.handshake.load(Ordering::Relaxed))
    }

    /// Returns the phase of a connection that was not opened within `limit`, and what happened: `unconnected`, if
    /// nothing has accepted it.
    pub(crate) fn unfinished(&self, unconnected: &str, limit: Duration) -> (Phase, String) {
        let (phase, what) = if self.handshake.load(Ordering::Relaxed) {
            (Phase::Handshake, NO_HANDSHAKE)
        } else if self.dial.has_connected() {
            (Phase::Connect, "it accepted the connection, and did not finish to open it (TLS, or HTTP)")
        } else {
            (Phase::Connect, unconnected)
        };
        (phase, format!("{what} within {}", HumanDuration(limit)))
    }
}
