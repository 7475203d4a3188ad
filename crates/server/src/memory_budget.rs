//! Bytes that all connections of a server hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A count of bytes with a limit that is looked at, not enforced: who would add looks first.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// One holder's share. It is given back when it is dropped, however the holder ends.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

/// Shares are counted in steps, so that the many connections that hold next to nothing do not
/// all write to one counter.
const STEP: usize = 4096;

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Whether `bytes` more would pass the limit.
    pub(crate) fn lacks(&self, bytes: usize) -> bool {
        self.used.load(Relaxed).saturating_add(bytes) > self.limit
    }

    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// A new holder, who has `bytes` now.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        let mut held = Held { budget: Arc::clone(self), bytes: 0 };
        held.set(bytes);
        held
    }
}

impl Held {
    /// States how much the holder has now.
    pub(crate) fn set(&mut self, bytes: usize) {
        let bytes = bytes / STEP * STEP;
        if bytes > self.bytes {
            self.budget.used.fetch_add(bytes - self.bytes, Relaxed);
        } else if bytes < self.bytes {
            self.budget.used.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_holder_had_comes_back_when_it_is_dropped() {
        let budget = Budget::new(10 * STEP);
        let mut one = budget.hold(0);
        let mut other = budget.hold(0);
        one.set(6 * STEP);
        other.set(3 * STEP + 1);
        assert!(budget.lacks(STEP + 1) && !budget.lacks(STEP));
        one.set(STEP);
        assert!(!budget.lacks(6 * STEP));
        drop(other);
        assert_eq!(budget.used(), STEP);
    }
}
