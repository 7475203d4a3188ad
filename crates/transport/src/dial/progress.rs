//! [`DialProgress`]: how far a dial has come, and when: for the error of a caller that waits no longer, and for a report
//! of the time that each step took.

use std::sync::{Arc, OnceLock};

use farcall_runtime::time::Instant;

/// The progress of a dial, read while it is under way or afterwards. A clone refers to the same dial.
#[derive(Clone, Debug, Default)]
pub struct DialProgress {
    marks: Arc<Marks>,
}

/// The times at which the steps of a dial were done.
#[derive(Debug, Default)]
struct Marks {
    resolved: OnceLock<Instant>,
    connected: OnceLock<Instant>,
    encrypted: OnceLock<Instant>,
}

impl DialProgress {
    /// Returns `true` once the server, or a proxy on the way, has accepted the connection: what is missing is TLS, or the
    /// answer over HTTP.
    #[must_use]
    pub fn has_connected(&self) -> bool {
        self.connected_at().is_some()
    }

    /// Returns when the addresses of the host's name were known; `None` before, and if nothing was resolved.
    #[must_use]
    pub fn resolved_at(&self) -> Option<Instant> {
        self.marks.resolved.get().copied()
    }

    /// Returns when the server, or a proxy on the way, accepted the connection.
    #[must_use]
    pub fn connected_at(&self) -> Option<Instant> {
        self.marks.connected.get().copied()
    }

    /// Returns when the handshake of TLS was done; `None` before, and for an address that is not encrypted.
    #[must_use]
    pub fn encrypted_at(&self) -> Option<Instant> {
        self.marks.encrypted.get().copied()
    }

    #[cfg(not(target_family = "wasm"))]
    pub(super) fn set_resolved(&self) {
        let _ = self.marks.resolved.set(Instant::now());
    }

    pub(super) fn set_connected(&self) {
        let _ = self.marks.connected.set(Instant::now());
    }

    #[cfg(feature = "tls")]
    pub(super) fn set_encrypted(&self) {
        let _ = self.marks.encrypted.set(Instant::now());
    }
}
