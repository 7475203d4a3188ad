//! [`ByteShares`]: the memory that the requests of all peers share, of which each peer has a part. What the bytes are is
//! for the caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farcall_transport::PeerKey;

/// Memory that peers share, in bytes. One peer may hold as much of it as is left for others: half of it, if it is alone. A
/// clone shares it.
///
/// ```
/// use farcall_transport::PeerAddress;
/// use farcall_web::ByteShares;
///
/// let shares = ByteShares::new(1000).guaranteed(10);
/// let peer = PeerAddress::Tcp("10.0.0.1:7001".parse()?).key();
/// let mut body = shares.hold(peer);
/// assert!(body.resize(500));
/// assert!(!body.resize(501), "the other half is for others");
/// assert!(shares.hold(peer).resize(10), "that much is guaranteed");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ByteShares {
    limit: usize,
    guaranteed: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    /// The part of each peer that holds any. Bounded by the number of [`HeldBytes`].
    by_peer: HashMap<PeerKey, usize>,
}

/// Bytes that one holder has of [`ByteShares`], until this is dropped.
#[derive(Debug)]
pub struct HeldBytes {
    shares: ByteShares,
    peer: PeerKey,
    bytes: usize,
}

impl ByteShares {
    /// Creates shares of `limit` bytes in all. `usize::MAX` is no limit.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, guaranteed: 0, held: Arc::default() }
    }

    /// Sets the bytes that each holder may have without being counted, whatever others hold. Default 0. All holders together
    /// may exceed the limit by that.
    #[must_use]
    pub fn guaranteed(self, bytes: usize) -> Self {
        Self { guaranteed: bytes, ..self }
    }

    /// Returns the bytes of all peers together.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Returns a holder for `peer` that has nothing yet.
    #[must_use]
    pub fn hold(&self, peer: PeerKey) -> HeldBytes {
        HeldBytes { shares: self.clone(), peer, bytes: 0 }
    }

    /// Only counting happens under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Replaces `before` bytes of a peer by `after`, if there is room or it is less; returns `true` then.
    fn replace(&mut self, peer: PeerKey, before: usize, after: usize, limit: usize) -> bool {
        let of_peer = self.by_peer.get(&peer).copied().unwrap_or_default() - before;
        let in_all = self.bytes - before;
        if after > before {
            let left = in_all.checked_add(after).and_then(|in_all| limit.checked_sub(in_all));
            if left.is_none_or(|left| of_peer + after > left) {
                return false;
            }
        }
        self.bytes = in_all + after;
        if of_peer + after == 0 {
            self.by_peer.remove(&peer);
        } else {
            self.by_peer.insert(peer, of_peer + after);
        }
        true
    }
}

impl HeldBytes {
    /// Changes what is held to `bytes`; returns `false`, and changes nothing, if there is no room for more.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let counted = if bytes <= self.shares.guaranteed { 0 } else { bytes };
        let before = self.bytes;
        if counted == before {
            return true;
        }
        let is_held = self.shares.lock().replace(self.peer, before, counted, self.shares.limit);
        if is_held {
            self.bytes = counted;
        }
        is_held
    }

    /// Moves `bytes` of it, or all if it has less, to another holder.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { shares: self.shares.clone(), peer: self.peer, bytes }
    }

    /// Returns the bytes of all peers together, as [`ByteShares::limit`] does.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.shares.limit
    }

    /// Returns the bytes that are counted.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        // Less is always held.
        let _ = self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use farcall_transport::PeerAddress;

    use super::*;

    fn peer(number: u8) -> PeerKey {
        PeerAddress::Tcp(([10, 0, 0, number], 7).into()).key()
    }

    fn held(shares: &ByteShares, number: u8, bytes: usize) -> Option<HeldBytes> {
        let mut held = shares.hold(peer(number));
        held.resize(bytes).then_some(held)
    }

    #[test]
    fn one_peer_has_half_and_leaves_room_for_others() {
        let shares = ByteShares::new(1000);
        let first = held(&shares, 1, 500).unwrap();
        assert!(held(&shares, 1, 1).is_none());
        // What it holds in several pieces counts together.
        let second = held(&shares, 2, 200).unwrap();
        assert!(held(&shares, 2, 51).is_none());
        let more = held(&shares, 2, 50).unwrap();
        // However many peers there are, one more has room.
        let mut others = Vec::new();
        for number in 3..=8 {
            let bytes = (1..=500).rev().find(|bytes| held(&shares, number, *bytes).is_some()).unwrap();
            others.push(held(&shares, number, bytes).unwrap());
        }
        drop((first, second, more, others));
        assert_eq!(shares.lock().bytes, 0);
        assert!(shares.lock().by_peer.is_empty());
    }

    #[test]
    fn guaranteed_bytes_are_held_whatever_others_do() {
        let shares = ByteShares::new(1000).guaranteed(16);
        let _full = held(&shares, 1, 500).unwrap();
        let mut small = held(&shares, 1, 16).unwrap();
        assert_eq!((small.bytes(), small.resize(17)), (0, false));
        assert!(held(&shares, 2, 17).is_some(), "another peer has its own half of the rest");
    }

    #[test]
    fn refused_growth_changes_nothing_and_less_is_always_held() {
        let shares = ByteShares::new(100);
        let mut bytes = held(&shares, 1, 40).unwrap();
        assert!(!bytes.resize(51) && !bytes.resize(usize::MAX));
        assert_eq!((bytes.bytes(), shares.lock().bytes), (40, 40));
        assert!(bytes.resize(10));
        let part = bytes.split(4);
        let rest = bytes.split(100);
        assert_eq!((part.bytes(), rest.bytes(), bytes.bytes(), shares.lock().bytes), (4, 6, 0, 10));
        drop((part, rest));
        assert_eq!(shares.lock().bytes, 0);
        let unlimited = ByteShares::new(usize::MAX);
        assert!(held(&unlimited, 1, usize::MAX / 2).is_some());
        assert!(held(&ByteShares::new(0), 1, 1).is_none() && held(&ByteShares::new(0), 1, 0).is_some());
    }
}
