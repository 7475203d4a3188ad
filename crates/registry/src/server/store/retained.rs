//! [`Retained`]: counts the bytes of pages that the store has replaced and that readers still hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory that a page takes for each byte of its JSON: the page's JSON, that of its items, and the parsed items.
const COPIES: usize = 3;

/// The counter of replaced pages' bytes. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Retained(Arc<AtomicUsize>);

/// The bytes of one replaced page, which are subtracted when the last reader drops the page.
#[derive(Debug)]
pub(super) struct RetainedBytes {
    counter: Retained,
    bytes: usize,
}

impl Retained {
    /// Returns the bytes of all pages that only readers hold: an upper bound, because pages share items.
    pub(in crate::server) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts a replaced page whose JSON has `json_bytes`.
    pub(super) fn add(&self, json_bytes: usize) -> RetainedBytes {
        let bytes = json_bytes * COPIES;
        self.0.fetch_add(bytes, Ordering::Relaxed);
        RetainedBytes { counter: self.clone(), bytes }
    }
}

/// The last holder of a page drops it, the store or a reader on another thread: only here is it known that its
/// memory is free.
impl Drop for RetainedBytes {
    fn drop(&mut self) {
        self.counter.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
