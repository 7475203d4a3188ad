//! [`MemoryBudget`]: the bytes that all connections of a server hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A count of bytes with a limit. The limit is advisory: those who are about to reserve check it
/// first, with [`MemoryBudget::would_exceed`].
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    /// `usize::MAX` if there is no limit.
    limit: usize,
    used: AtomicUsize,
}

/// One holder's share of the budget, released when it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryReservation {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

/// The granularity of shares, in bytes: the many connections that hold next to nothing do not all
/// write to one counter.
const STEP: usize = 4096;

impl MemoryBudget {
    pub(crate) fn new(limit: Option<usize>) -> Arc<Self> {
        Arc::new(Self { limit: limit.unwrap_or(usize::MAX), used: AtomicUsize::new(0) })
    }

    /// Returns `true` if `bytes` more would exceed the limit.
    pub(crate) fn would_exceed(&self, bytes: usize) -> bool {
        self.used.load(Relaxed).saturating_add(bytes) > self.limit
    }

    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the text of the error for those that the budget has no room for.
    #[cold]
    pub(crate) fn exhausted_message(&self) -> String {
        format!("the server's buffers are full: {} bytes", self.limit)
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Creates a reservation of `bytes`.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> MemoryReservation {
        let mut reservation = MemoryReservation { budget: Arc::clone(self), bytes: 0 };
        reservation.resize(bytes);
        reservation
    }
}

impl MemoryReservation {
    /// Changes the share to `bytes`.
    pub(crate) fn resize(&mut self, bytes: usize) {
        let bytes = bytes / STEP * STEP;
        if bytes > self.bytes {
            self.budget.used.fetch_add(bytes - self.bytes, Relaxed);
        } else if bytes < self.bytes {
            self.budget.used.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_reservation_is_released() {
        let budget = MemoryBudget::new(Some(10 * STEP));
        let mut one = budget.reserve(0);
        let mut other = budget.reserve(0);
        one.resize(6 * STEP);
        other.resize(3 * STEP + 1);
        assert!(budget.would_exceed(STEP + 1) && !budget.would_exceed(STEP));
        one.resize(STEP);
        assert!(!budget.would_exceed(6 * STEP));
        drop(other);
        assert_eq!(budget.used(), STEP);
    }

    #[test]
    fn no_limit_is_never_exceeded() {
        assert!(!MemoryBudget::new(None).would_exceed(usize::MAX));
    }
}
