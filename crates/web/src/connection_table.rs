//! [`ConnectionTable`]: the open connections of a server, with a share for each peer; idle ones make room for others.
//!
//! Accepting connections and ending them is left to [`accept`](super::accept).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farcall_transport::{PeerAddress, PeerKey, TurnPlace, TurnQueue};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::byte_shares::{ByteShares, HeldBytes};

/// A peer may have this many connections for each one that is still free: alone, 7/8 of all; two of them 7/15 each. Some
/// stay free for others this way, and a proxy's address can still have many.
const CONNECTIONS_PER_FREE_ONE: usize = 7;
/// The large bodies of requests that are read before other tasks run, for each thread of the runtime.
const BODIES_AT_ONCE: usize = 2;
/// The memory that the heads of requests may take in all, in bytes. Half of it is for one peer.
const MAX_HEADS_BYTES: usize = 64 * 1024 * 1024;
/// The memory of a head that does not count, in bytes: that of 8 KiB of text, hyper's first buffer.
const GUARANTEED_HEAD_BYTES: usize = 16 * 1024;

/// The open connections of a server. A clone shares all of it.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionTable {
    /// `None` means no limit.
    max_connections: Option<usize>,
    state: Arc<Mutex<TableState>>,
    /// The turns of large bodies.
    turns: TurnQueue,
    /// The memory of heads.
    heads: ByteShares,
}

#[derive(Debug, Default)]
struct TableState {
    last_id: u64,
    /// Bounded by `max_connections`.
    open: HashMap<u64, OpenConnection>,
    /// The peers of `open`.
    peers: HashMap<PeerKey, Peer>,
}

#[derive(Debug)]
struct OpenConnection {
    peer: PeerKey,
    /// Requests under way.
    busy: usize,
    /// The place among the idle ones of the peer; `None` while it is busy.
    idle: Option<IdleKey>,
    closed: CancellationToken,
}

/// The order in which idle connections make room: first those that have never had a request, then the longest idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct IdleKey {
    has_served: bool,
    since: Instant,
    id: u64,
}

#[derive(Debug, Default)]
struct Peer {
    connections: usize,
    idle: BTreeSet<IdleKey>,
}

/// A connection's place in the table, until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    activity: ConnectionActivity,
}

/// A connection, as its requests see it: while one is under way, the connection is not closed to make room.
///
/// A connection is idle until its first request, and between requests.
#[derive(Clone, Debug)]
pub struct ConnectionActivity {
    id: u64,
    peer: PeerKey,
    table: ConnectionTable,
    closed: CancellationToken,
}

/// A request under way: its connection is busy until this is dropped.
#[derive(Debug)]
#[must_use = "the connection is idle again when it is dropped"]
pub struct BusyGuard {
    activity: ConnectionActivity,
}

impl ConnectionTable {
    pub(crate) fn new(max_connections: Option<usize>) -> Self {
        Self {
            max_connections,
            state: Arc::default(),
            turns: TurnQueue::new(BODIES_AT_ONCE),
            heads: ByteShares::new(MAX_HEADS_BYTES).guaranteed(GUARANTEED_HEAD_BYTES),
        }
    }

    /// Adds a connection, or returns `None` if there is no room. Idle connections make room: one of the peer that has
    /// most connections, among this peer and those that have more than it.
    pub(crate) fn open(&self, peer: PeerKey) -> Option<ConnectionSlot> {
        let mut state = self.lock();
        if !state.has_room(peer, self.max_connections) && !state.close_an_idle_one(peer) {
            return None;
        }
        state.last_id += 1;
        let (id, closed) = (state.last_id, CancellationToken::new());
        let idle = IdleKey { has_served: false, since: Instant::now(), id };
        let connection = OpenConnection { peer, busy: 0, idle: Some(idle), closed: closed.clone() };
        state.open.insert(id, connection);
        let of_peer = state.peers.entry(peer).or_default();
        of_peer.connections += 1;
        of_peer.idle.insert(idle);
        drop(state);
        Some(ConnectionSlot { activity: ConnectionActivity { id, peer, table: self.clone(), closed } })
    }

    /// Returns the number of open connections of a peer.
    pub(crate) fn connections_of(&self, peer: PeerKey) -> usize {
        self.lock().peers.get(&peer).map_or(0, |peer| peer.connections)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Only counting happens under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, TableState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableState {
    fn has_room(&self, peer: PeerKey, max_connections: Option<usize>) -> bool {
        let Some(max) = max_connections else { return true };
        let free = max.saturating_sub(self.open.len());
        let of_peer = self.peers.get(&peer).map_or(0, |peer| peer.connections);
        free > 0 && of_peer < free.saturating_mul(CONNECTIONS_PER_FREE_ONE)
    }

    /// Closes an idle connection in favor of one of `peer`; returns `false` if there is none.
    fn close_an_idle_one(&mut self, peer: PeerKey) -> bool {
        let of_peer = self.peers.get(&peer).map_or(0, |peer| peer.connections);
        let candidates = self
            .peers
            .iter()
            .filter(|(key, other)| !other.idle.is_empty() && (**key == peer || other.connections > of_peer));
        let largest = candidates.max_by_key(|(_, other)| other.connections).map(|(_, other)| other);
        let Some(first) = largest.and_then(|largest| largest.idle.first()) else { return false };
        if let Some(connection) = self.remove(first.id) {
            connection.closed.cancel();
        }
        true
    }

    fn remove(&mut self, id: u64) -> Option<OpenConnection> {
        let connection = self.open.remove(&id)?;
        if let Some(peer) = self.peers.get_mut(&connection.peer) {
            peer.connections -= 1;
            if let Some(idle) = &connection.idle {
                peer.idle.remove(idle);
            }
            if peer.connections == 0 {
                self.peers.remove(&connection.peer);
            }
        }
        Some(connection)
    }

    /// Counts a request that has begun or ended. Nothing happens if the connection was closed meanwhile.
    fn set_busy(&mut self, id: u64, begins: bool) {
        let Some(connection) = self.open.get_mut(&id) else { return };
        connection.busy = if begins { connection.busy + 1 } else { connection.busy.saturating_sub(1) };
        let Some(peer) = self.peers.get_mut(&connection.peer) else { return };
        if connection.busy > 0 {
            if let Some(idle) = connection.idle.take() {
                peer.idle.remove(&idle);
            }
        } else {
            let idle = IdleKey { has_served: true, since: Instant::now(), id };
            connection.idle = Some(idle);
            peer.idle.insert(idle);
        }
    }
}

impl ConnectionSlot {
    /// Returns the connection, for its requests.
    pub(crate) fn activity(&self) -> ConnectionActivity {
        self.activity.clone()
    }

    /// Returns the token that is cancelled when the connection must be closed to make room for another.
    pub(crate) fn closed(&self) -> CancellationToken {
        self.activity.closed.clone()
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let ConnectionActivity { id, table, .. } = &self.activity;
        table.lock().remove(*id);
    }
}

impl ConnectionActivity {
    /// Returns that of a connection which belongs to no [`Connections`](crate::Connections) and is never closed for
    /// another.
    #[must_use]
    pub fn detached() -> Self {
        let (peer, table) = (PeerAddress::Memory.key(), ConnectionTable::new(None));
        Self { id: 0, peer, table, closed: CancellationToken::new() }
    }

    /// Returns a holder of memory for the heads of this connection.
    pub(crate) fn hold_head(&self) -> HeldBytes {
        self.table.heads.hold(self.peer)
    }

    /// Returns a place among the large bodies of all connections.
    pub(crate) fn place(&self) -> TurnPlace {
        self.table.turns.place(self.peer)
    }

    /// Marks the connection as busy.
    pub fn busy(&self) -> BusyGuard {
        self.table.lock().set_busy(self.id, true);
        BusyGuard { activity: self.clone() }
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.activity.table.lock().set_busy(self.activity.id, false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farcall_transport::PeerAddress;
    use tokio::time::advance;

    use super::*;

    fn ip(n: u8) -> PeerKey {
        PeerAddress::Tcp(([10, 0, 0, n], 7).into()).key()
    }

    /// Opens connections until one is refused, at most `count`, all of them busy.
    fn fill(table: &ConnectionTable, peer: PeerKey, count: usize) -> Vec<(ConnectionSlot, BusyGuard)> {
        let mut open = Vec::new();
        while open.len() < count
            && let Some(slot) = table.open(peer)
        {
            let busy = slot.activity().busy();
            open.push((slot, busy));
        }
        open
    }

    #[tokio::test(start_paused = true)]
    async fn busy_peer_leaves_room_for_others() {
        let table = ConnectionTable::new(Some(4096));
        let first = fill(&table, ip(1), usize::MAX);
        assert_eq!(first.len(), 3584);
        let second = fill(&table, ip(2), usize::MAX);
        assert_eq!(second.len(), 448);
        // However many peers there are, one more gets a connection.
        let mut others = Vec::new();
        for n in 3..=100 {
            let of_one = fill(&table, ip(n), usize::MAX);
            assert!(!of_one.is_empty() || table.len() == 4096, "{n}");
            others.extend(of_one);
        }
        drop(first);
        assert!(table.open(ip(2)).is_some());
    }

    #[test]
    fn small_limits_can_be_used_up_by_one_peer() {
        for max in 1..=8 {
            let table = ConnectionTable::new(Some(max));
            assert_eq!(fill(&table, ip(1), usize::MAX).len(), max.min(7));
        }
        assert_eq!(fill(&ConnectionTable::new(None), ip(1), 10_000).len(), 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn longest_idle_connection_of_the_largest_peer_makes_room() {
        let table = ConnectionTable::new(Some(6));
        let mut large = Vec::new();
        for _ in 0..4 {
            large.push(table.open(ip(1)).unwrap());
            advance(Duration::from_secs(1)).await;
        }
        let small: Vec<_> = (0..2).map(|_| table.open(ip(2)).unwrap()).collect();
        // Those that have had a request stay longer than those that have not.
        drop(large[0].activity().busy());
        advance(Duration::from_secs(60)).await;
        let closed = |slots: &[ConnectionSlot]| {
            slots.iter().map(|slot| slot.closed().is_cancelled()).collect::<Vec<_>>()
        };
        let third = table.open(ip(3)).unwrap();
        assert_eq!(closed(&large), [false, true, false, false]);
        // The same from the large peer's own address.
        let own = table.open(ip(1)).unwrap();
        assert_eq!(closed(&large), [false, true, true, false]);
        assert_eq!((closed(&small), table.len()), (vec![false, false], 6));
        drop((large, own, third));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn large_peer_does_not_close_connections_of_smaller_ones() {
        let table = ConnectionTable::new(Some(4));
        let _busy = fill(&table, ip(1), 3);
        let small = table.open(ip(2)).unwrap();
        assert!(table.open(ip(1)).is_none());
        assert!(!small.closed().is_cancelled());
        // It makes room for a peer that has none.
        assert!(table.open(ip(3)).is_some());
        assert!(small.closed().is_cancelled());
    }

    #[test]
    fn request_of_a_connection_that_was_closed_changes_nothing() {
        let table = ConnectionTable::new(Some(1));
        let old = table.open(ip(1)).unwrap();
        let new = table.open(ip(1)).unwrap();
        drop(old.activity().busy());
        drop(old);
        assert_eq!((table.len(), table.connections_of(ip(1))), (1, 1));
        drop(new);
        assert!(table.lock().peers.is_empty());
    }
}
