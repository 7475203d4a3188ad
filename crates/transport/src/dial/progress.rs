//! [`DialProgress`]: how far a dial has come, for the error of a caller that waits no longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The progress of a dial, read while it is under way. A clone refers to the same dial.
#[derive(Clone, Debug, Default)]
pub struct DialProgress {
    connected: Arc<AtomicBool>,
}

impl DialProgress {
    /// Returns `true` once the server, or a proxy on the way, has accepted the connection: what is missing is TLS, or the
    /// answer over HTTP.
    #[must_use]
    pub fn has_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn set_connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }
}
