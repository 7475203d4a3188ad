//! [`PeerUsage`]: what all connections from one address occupy of a server together.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The bytes and calls of all connections from one address together.
#[derive(Debug, Default)]
pub(crate) struct PeerUsage {
    bytes: AtomicUsize,
    /// Calls that have tasks.
    calls: AtomicUsize,
}

impl PeerUsage {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn subtract_bytes(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    pub(crate) fn call_began(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(crate) fn call_ended(&self) {
        self.calls.fetch_sub(1, Relaxed);
    }
}
