//! [`PeerUsage`]: what all connections of one peer occupy of a server together. [`ActivePeers`]: among how many of them its
//! places are divided.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The bytes and calls of all connections of one peer together.
#[derive(Debug, Default)]
pub(crate) struct PeerUsage {
    bytes: AtomicUsize,
    /// Calls that have tasks.
    calls: AtomicUsize,
    /// Connections with such calls.
    active: AtomicUsize,
}

/// The number of peers with calls in flight.
#[derive(Debug, Default)]
pub(crate) struct ActivePeers(AtomicUsize);

/// A connection as one of those among which the places of a server are divided: first between peers, then between
/// the connections of each.
#[derive(Clone, Debug)]
pub(crate) struct Sharer {
    peer: Arc<PeerUsage>,
    peers: Arc<ActivePeers>,
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

    /// Returns `true` if any of its connections is one among which places are divided.
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Relaxed) > 0
    }

    pub(crate) fn call_began(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(crate) fn call_ended(&self) {
        self.calls.fetch_sub(1, Relaxed);
    }
}

impl Sharer {
    pub(crate) const fn new(peer: Arc<PeerUsage>, peers: Arc<ActivePeers>) -> Self {
        Self { peer, peers }
    }

    /// Notes that the connection has a call in flight, and had none before.
    pub(crate) fn became_active(&self) {
        if self.peer.active.fetch_add(1, Relaxed) == 0 {
            self.peers.0.fetch_add(1, Relaxed);
        }
    }

    /// Notes that the connection has no call in flight any more.
    pub(crate) fn became_idle(&self) {
        if self.peer.active.fetch_sub(1, Relaxed) == 1 {
            self.peers.0.fetch_sub(1, Relaxed);
        }
    }

    /// Returns the share of the connection in `places`, if all are asked for.
    pub(crate) fn share_of(&self, places: usize) -> usize {
        let (peers, connections) = (self.peers.0.load(Relaxed), self.peer.active.load(Relaxed));
        (places / peers.max(1) / connections.max(1)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_divided_between_peers_and_then_between_their_connections() {
        let peers = Arc::new(ActivePeers::default());
        let one = Arc::<PeerUsage>::default();
        let [a, b] = [(); 2].map(|()| Sharer::new(Arc::clone(&one), Arc::clone(&peers)));
        let other = Sharer::new(Arc::default(), Arc::clone(&peers));
        assert_eq!(a.share_of(100), 100);
        a.became_active();
        b.became_active();
        assert_eq!((a.share_of(100), b.share_of(100)), (50, 50));
        other.became_active();
        assert_eq!((a.share_of(100), other.share_of(100), other.share_of(1)), (25, 50, 1));
        a.became_idle();
        b.became_idle();
        assert_eq!(other.share_of(100), 100);
    }
}
