//! [`MemoryBudget`]: the bytes that all connections of a server hold together, with a share for each
//! connection and each peer.
//!
//! A [`MemoryAccount`] counts what one connection holds, at three places: for the connection, for its
//! peer, and in all. Everything that a peer can make the server keep is in it: what was read and is
//! incomplete, the bodies and metadata of calls that have tasks, and responses until they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::peer_usage::PeerUsage;

/// The granularity of shares, in bytes: the many connections that hold next to nothing do not all
/// write to one counter.
const STEP: usize = 4096;
/// Messages up to this size, in bytes, are admitted without a look at the shares while all connections
/// together hold less than one of them may.
const MAX_UNCHECKED: usize = 4096;
/// The bytes that each connection may hold whatever the others do: a read buffer of the smallest size,
/// and four small calls with their responses. Together they may exceed the limit in all by this for
/// each connection.
pub(crate) const GUARANTEED_BYTES: usize = 24 * 1024;
/// The bytes that the calls of this process and of its HTTP gateway may hold together whatever the
/// connections do.
const GUARANTEED_LOCAL_BYTES: usize = 1024 * 1024;

/// The limits of a server's memory, in bytes; `usize::MAX` for those that are not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryLimits {
    pub(crate) in_all: usize,
    pub(crate) per_peer: usize,
    pub(crate) per_connection: usize,
}

/// A count of bytes with limits. They are advisory: those who are about to hold memory check first.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    limits: MemoryLimits,
    /// The smallest limit: while less is held in all, no share is exceeded.
    unchecked_below: usize,
    used: AtomicUsize,
}

/// The bytes of one connection, which are also counted for its peer and in all.
#[derive(Debug)]
pub(crate) struct MemoryAccount {
    budget: Arc<MemoryBudget>,
    /// `None` if no limits for each peer hold for it, or the account is for calls of this process.
    peer: Option<Arc<PeerUsage>>,
    used: AtomicUsize,
    guaranteed: usize,
    limit: usize,
}

/// A limit that would be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The connection's share.
    Connection,
    /// The share of the peer.
    Peer,
    /// The limit of the server.
    InAll,
}

/// One holder's bytes of an account, released when it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryReservation {
    account: Arc<MemoryAccount>,
    bytes: usize,
}

impl MemoryBudget {
    pub(crate) fn new(limits: MemoryLimits) -> Arc<Self> {
        let unchecked_below = limits.in_all.min(limits.per_peer).min(limits.per_connection);
        Arc::new(Self { limits, unchecked_below, used: AtomicUsize::new(0) })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Creates the account of a connection.
    pub(crate) fn account(self: &Arc<Self>, peer: Option<Arc<PeerUsage>>) -> Arc<MemoryAccount> {
        self.open(peer, GUARANTEED_BYTES, self.limits.per_connection)
    }

    /// Creates the account of the calls that come over no connection.
    pub(crate) fn local_account(self: &Arc<Self>) -> Arc<MemoryAccount> {
        self.open(None, GUARANTEED_LOCAL_BYTES, usize::MAX)
    }

    fn open(
        self: &Arc<Self>,
        peer: Option<Arc<PeerUsage>>,
        guaranteed: usize,
        limit: usize,
    ) -> Arc<MemoryAccount> {
        // What is guaranteed is small next to any sensible limit; a test may set a tiny one.
        let guaranteed = guaranteed.min(self.limits.in_all);
        let budget = Arc::clone(self);
        Arc::new(MemoryAccount { budget, peer, used: AtomicUsize::new(0), guaranteed, limit })
    }
}

impl MemoryAccount {
    /// Returns the bytes that the connection holds.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Returns `true` if a message of `bytes` is so small, and so little is held by all together, that
    /// no share needs to be looked at.
    #[inline]
    pub(crate) fn is_unchecked(&self, bytes: usize) -> bool {
        bytes <= MAX_UNCHECKED && self.budget.used() < self.budget.unchecked_below
    }

    /// Returns `true` if so much is held by others that the connection should keep nothing that it
    /// does not need at once.
    #[inline]
    pub(crate) fn is_scarce(&self) -> bool {
        !self.is_unchecked(0) && self.is_nearly_full()
    }

    #[cold]
    fn is_nearly_full(&self) -> bool {
        let MemoryLimits { in_all, per_peer, .. } = self.budget.limits;
        let of_peer = self.peer.as_ref().map_or(0, |peer| peer.bytes());
        self.budget.used() > in_all / 8 * 7 || of_peer > per_peer / 8 * 7
    }

    /// Checks that the connection may hold `bytes` more.
    ///
    /// # Errors
    ///
    /// The first limit that it would exceed: its own before those that others share.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), Shortage> {
        let MemoryLimits { in_all, per_peer, .. } = self.budget.limits;
        let own = self.used().saturating_add(bytes);
        if own <= self.guaranteed {
            return Ok(());
        }
        if own > self.limit {
            return Err(Shortage::Connection);
        }
        let of_peer = self.peer.as_ref().map_or(0, |peer| peer.bytes());
        if of_peer.saturating_add(bytes) > per_peer {
            return Err(Shortage::Peer);
        }
        if self.budget.used().saturating_add(bytes) > in_all {
            return Err(Shortage::InAll);
        }
        Ok(())
    }

    /// Checks that the connection may hold a response of `bytes`. It exists already, so it is held if
    /// the shares are not full without it: each is exceeded by one response at most.
    ///
    /// # Errors
    ///
    /// The first limit that is reached.
    pub(crate) fn check_response(&self, bytes: usize) -> Result<(), Shortage> {
        if self.used().saturating_add(bytes) <= self.guaranteed {
            return Ok(());
        }
        let MemoryLimits { in_all, per_peer, .. } = self.budget.limits;
        if self.used() >= self.limit {
            return Err(Shortage::Connection);
        }
        if self.peer.as_ref().is_some_and(|peer| peer.bytes() >= per_peer) {
            return Err(Shortage::Peer);
        }
        if self.budget.used() >= in_all { Err(Shortage::InAll) } else { Ok(()) }
    }

    /// Returns the text of the error for those that there is no room for.
    #[cold]
    pub(crate) fn shortage_message(&self, shortage: Shortage) -> String {
        let MemoryLimits { in_all, per_peer, .. } = self.budget.limits;
        match shortage {
            Shortage::Connection => {
                let limit = self.limit;
                format!("the share of this connection in the server's buffers is full: {limit} bytes")
            }
            Shortage::Peer => {
                format!("the share of this peer in the server's buffers is full: {per_peer} bytes")
            }
            Shortage::InAll => format!("the server's buffers are full: {in_all} bytes"),
        }
    }

    /// Creates a reservation of nothing.
    pub(crate) fn reserve(self: &Arc<Self>) -> MemoryReservation {
        MemoryReservation { account: Arc::clone(self), bytes: 0 }
    }

    fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Relaxed);
        self.budget.used.fetch_add(bytes, Relaxed);
        if let Some(peer) = &self.peer {
            peer.add_bytes(bytes);
        }
    }

    fn subtract(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
        self.budget.used.fetch_sub(bytes, Relaxed);
        if let Some(peer) = &self.peer {
            peer.subtract_bytes(bytes);
        }
    }
}

impl MemoryReservation {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the reserved bytes to `bytes`, in whole steps.
    #[inline]
    pub(crate) fn resize(&mut self, bytes: usize) {
        let bytes = bytes / STEP * STEP;
        if bytes != self.bytes {
            self.set(bytes);
        }
    }

    fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.account.add(bytes - self.bytes);
        } else {
            self.account.subtract(self.bytes - bytes);
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

    const NONE: usize = usize::MAX;

    fn budget(in_all: usize, per_peer: usize, per_connection: usize) -> Arc<MemoryBudget> {
        MemoryBudget::new(MemoryLimits { in_all, per_peer, per_connection })
    }

    fn hold(account: &Arc<MemoryAccount>, bytes: usize) -> MemoryReservation {
        let mut reservation = account.reserve();
        reservation.resize(bytes);
        reservation
    }

    #[test]
    fn dropped_reservation_is_released_everywhere() {
        let budget = budget(100 * STEP, 50 * STEP, 20 * STEP);
        let peer = Arc::new(PeerUsage::default());
        let account = budget.account(Some(Arc::clone(&peer)));
        let mut one = hold(&account, 6 * STEP);
        let other = hold(&account, 3 * STEP + 1);
        assert_eq!((account.used(), peer.bytes(), budget.used()), (9 * STEP, 9 * STEP, 9 * STEP));
        one.resize(STEP);
        drop(other);
        assert_eq!((account.used(), peer.bytes(), budget.used()), (STEP, STEP, STEP));
        drop(one);
        assert_eq!((account.used(), peer.bytes(), budget.used()), (0, 0, 0));
    }

    #[test]
    fn no_limit_is_never_exceeded() {
        let budget = budget(NONE, NONE, NONE);
        let account = budget.account(Some(Arc::default()));
        assert_eq!(account.check(usize::MAX), Ok(()));
        assert!(account.is_unchecked(MAX_UNCHECKED) && !account.is_unchecked(MAX_UNCHECKED + 1));
    }

    #[test]
    fn each_share_is_a_limit() {
        let budget = budget(100 * STEP, 50 * STEP, 20 * STEP);
        let peer = Arc::new(PeerUsage::default());
        let of_peer: Vec<_> = (0..4).map(|_| budget.account(Some(Arc::clone(&peer)))).collect();
        assert_eq!(of_peer[0].check(21 * STEP), Err(Shortage::Connection));
        let mut held: Vec<_> = of_peer[..2].iter().map(|account| hold(account, 20 * STEP)).collect();
        assert_eq!(of_peer[2].check(10 * STEP), Ok(()));
        assert_eq!(of_peer[2].check(11 * STEP), Err(Shortage::Peer));
        assert!(!of_peer[3].is_scarce());
        held.push(hold(&of_peer[2], 10 * STEP));
        assert!(of_peer[3].is_scarce() && !budget.account(None).is_scarce());
        // Those of other peers have their own share.
        let others: Vec<_> = (0..3).map(|_| budget.account(None)).collect();
        held.extend(others.iter().map(|account| hold(account, 20 * STEP)).take(2));
        assert_eq!(others[2].check(10 * STEP), Ok(()));
        assert_eq!(others[2].check(11 * STEP), Err(Shortage::InAll));
        assert!(!others[2].is_unchecked(1));
    }

    #[test]
    fn small_bytes_are_guaranteed_to_each_connection() {
        let budget = budget(100 * STEP, 50 * STEP, 100 * STEP);
        let peer = Arc::new(PeerUsage::default());
        let greedy = budget.account(Some(Arc::clone(&peer)));
        let _held = hold(&greedy, 100 * STEP);
        let same_address = budget.account(Some(peer));
        for account in [&same_address, &budget.account(None)] {
            assert_eq!(account.check(GUARANTEED_BYTES), Ok(()));
            let _own = hold(account, GUARANTEED_BYTES);
            assert!(account.check(1).is_err());
        }
        assert_eq!(greedy.check(1), Err(Shortage::Connection));
        assert_eq!(budget.local_account().check(GUARANTEED_BYTES), Ok(()));
    }

    #[test]
    fn response_passes_until_a_share_is_full() {
        let step = STEP;
        let budget = budget(100 * step, 50 * step, 20 * step);
        let peer = Arc::new(PeerUsage::default());
        let [one, other] = [(); 2].map(|()| budget.account(Some(Arc::clone(&peer))));
        let mut held = vec![hold(&one, 19 * step)];
        assert_eq!(one.check_response(usize::MAX), Ok(()), "one of any size");
        held.push(hold(&one, step));
        assert_eq!(one.check_response(0), Err(Shortage::Connection));
        held.push(hold(&other, 19 * step));
        let third = budget.account(Some(Arc::clone(&peer)));
        held.push(hold(&third, 10 * step));
        assert_eq!(other.check_response(step), Ok(()));
        held.push(hold(&third, step));
        assert_eq!(other.check_response(step), Err(Shortage::Peer));
        let new = budget.account(Some(peer));
        assert_eq!(new.check_response(GUARANTEED_BYTES), Ok(()));
        assert_eq!(new.check_response(GUARANTEED_BYTES + 1), Err(Shortage::Peer));
        let elsewhere: Vec<_> = (0..3).map(|_| budget.account(None)).collect();
        held.extend(elsewhere.iter().map(|account| hold(account, 16 * step)));
        assert_eq!(elsewhere[0].check_response(step), Ok(()));
        held.push(hold(&elsewhere[1], 2 * step));
        assert_eq!(elsewhere[0].check_response(step), Err(Shortage::InAll));
    }

    #[test]
    fn buffers_are_scarce_beyond_seven_eighths() {
        let budget = budget(80 * STEP, 40 * STEP, 80 * STEP);
        let (account, peer) = (budget.account(None), Arc::new(PeerUsage::default()));
        let of_peer = budget.account(Some(Arc::clone(&peer)));
        let mut held = vec![hold(&of_peer, 35 * STEP)];
        assert!(!of_peer.is_nearly_full());
        held.push(hold(&of_peer, STEP));
        assert!(of_peer.is_nearly_full() && !account.is_nearly_full());
        held.push(hold(&account, 34 * STEP));
        assert!(!account.is_nearly_full());
        held.push(hold(&account, STEP));
        assert!(account.is_nearly_full());
    }

    #[test]
    fn message_of_a_shortage_names_the_share_and_its_limit() {
        let account = budget(3000, 2000, 1000).account(None);
        for (shortage, message) in [
            (
                Shortage::Connection,
                "the share of this connection in the server's buffers is full: 1000 bytes",
            ),
            (Shortage::Peer, "the share of this peer in the server's buffers is full: 2000 bytes"),
            (Shortage::InAll, "the server's buffers are full: 3000 bytes"),
        ] {
            assert_eq!(account.shortage_message(shortage), message);
        }
    }
}
