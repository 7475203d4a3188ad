//! [`ConnectionTable`]: the open connections of a server, with limits in all and per peer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_protocol::{Code, Status};
use farcall_transport::{PeerAddress, PeerKey, Scheme};
use tokio::time::Instant;

use crate::call::in_flight::{InFlightCalls, Signal};
use crate::connection::stats::{ConnectionStats, MIN_WAITING_BYTES};
use crate::error::stopping;
use crate::limits::Limits;
use crate::memory_budget::MemoryBudget;
use crate::peer_usage::{ActivePeers, PeerUsage, Sharer};

/// The open connections of a server.
pub(crate) struct ConnectionTable {
    state: Mutex<TableState>,
    memory: Arc<MemoryBudget>,
    /// Those among which places are divided.
    active_peers: Arc<ActivePeers>,
}

#[derive(Default)]
struct TableState {
    /// The open connections, including those in their handshake, in the order in which they came. Bounded by
    /// `max_connections`.
    open: BTreeMap<u64, ConnectionEntry>,
    /// The peers. Bounded by `open`, and by calls that go on after their connections.
    by_peer: HashMap<PeerKey, Peer>,
    /// Connections that are being refused with a status. Bounded by [`MAX_REFUSING`].
    refusing: usize,
    last_id: u64,
    /// No connection to be shed was found, and none is looked for until then.
    next_search: Option<Instant>,
    /// The last connection that was shed.
    last_shed: Option<ShedConnection>,
    /// The number of connections that were shed.
    shed: u64,
    /// `true` once no connection is admitted any more.
    closed: bool,
}

/// The connections of one peer.
#[derive(Default)]
struct Peer {
    connections: usize,
    usage: Arc<PeerUsage>,
}

/// A connection that is giving up its memory.
struct ShedConnection {
    peer: Option<Arc<PeerUsage>>,
    /// The part of its bytes that was not promised to others yet.
    bytes: usize,
    /// Until then, its bytes may still be counted.
    until: Instant,
}

/// An open connection.
#[derive(Clone)]
pub(crate) struct ConnectionEntry {
    /// The connection's number, unique within the server.
    pub(crate) id: u64,
    pub(crate) calls: Arc<InFlightCalls>,
    pub(crate) stats: Arc<ConnectionStats>,
}

/// Refusals that are sent at the same time. Beyond them, connections are closed without a status.
const MAX_REFUSING: usize = 64;
/// A connection is shed for something that is this many times smaller than what it holds, as a
/// divisor: among those that hold about as much, the first is served.
const MIN_SHED_RATIO: usize = 4;
/// The time for which a connection must have held much to be shed: an honest peer is read from, or
/// reads, within it.
const MIN_SHED_TIME: Duration = Duration::from_secs(1);
/// The pause between searches that find nothing: each looks at all connections.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);
/// The time for a connection to give up its memory.
const SHED_TIME: Duration = Duration::from_millis(100);

/// The decision on a new connection.
pub(crate) enum Admission {
    /// The connection is served.
    Open(ConnectionPermit),
    /// The connection is refused with a status.
    Refused(Status, Refusal),
    /// The connection is closed, since too many are being refused.
    Dropped,
}

impl ConnectionTable {
    /// Creates an empty table, whose connections hold bytes of `memory`.
    pub(crate) fn new(memory: Arc<MemoryBudget>) -> Self {
        Self { state: Mutex::default(), memory, active_peers: Arc::default() }
    }

    /// Adds a connection, or returns why it is refused.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: &PeerAddress,
        scheme: Option<Scheme>,
        limits: &Limits,
    ) -> Admission {
        let mut state = self.lock();
        let key = peer.key();
        let Err(status) = state.check(key, limits) else {
            state.last_id += 1;
            let id = state.last_id;
            let stats = Arc::new(ConnectionStats::new(peer, scheme));
            let usage = state.connect(key);
            let sharer = Sharer::new(Arc::clone(&usage), Arc::clone(&self.active_peers));
            let usage = has_limits(key).then_some(usage);
            let memory = self.memory.account(usage.clone());
            let calls = Arc::new(InFlightCalls::new(memory, usage, Some(sharer)));
            let entry = ConnectionEntry { id, calls, stats };
            state.open.insert(id, entry.clone());
            return Admission::Open(ConnectionPermit { entry, key, table: Arc::clone(self) });
        };
        if state.refusing >= MAX_REFUSING {
            return Admission::Dropped;
        }
        state.refusing += 1;
        Admission::Refused(status, Refusal { table: Arc::clone(self) })
    }

    /// Admits no further connections, and sends `signal` to the open ones. Each connection either
    /// gets the signal, or comes too late to be admitted.
    pub(crate) fn close(&self, signal: Signal) {
        let mut state = self.lock();
        state.closed = true;
        for entry in state.open.values() {
            entry.calls.signal(signal);
        }
    }

    /// Aborts the calls of all connections.
    pub(crate) fn abort_all(&self) {
        for entry in self.lock().open.values() {
            entry.calls.abort_all();
        }
    }

    /// Returns the open connections, the oldest first.
    pub(crate) fn list(&self) -> Vec<ConnectionEntry> {
        self.lock().open.values().cloned().collect()
    }

    /// Closes the connection, of all or of one peer, that holds most of what waits for its peer,
    /// if it holds many times more than `bytes`, and has for a while. Returns `true` if so: its memory
    /// is free soon.
    pub(crate) fn shed(&self, peer: Option<&Arc<PeerUsage>>, bytes: usize) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        let is_meant = |of_connection: Option<&Arc<PeerUsage>>| match (peer, of_connection) {
            (Some(peer), Some(of_connection)) => Arc::ptr_eq(peer, of_connection),
            (Some(_), None) => false,
            (None, _) => true,
        };
        if let Some(last) = &mut state.last_shed
            && now < last.until
            && is_meant(last.peer.as_ref())
            && bytes <= last.bytes
        {
            last.bytes -= bytes;
            return true;
        }
        if state.next_search.is_some_and(|time| now < time) {
            return false;
        }
        let waiting = |entry: &ConnectionEntry| entry.stats.waiting_bytes(MIN_SHED_TIME, now);
        let min = bytes.saturating_mul(MIN_SHED_RATIO).max(MIN_WAITING_BYTES);
        let open = state.open.values().filter(|entry| entry.calls.signalled() < Signal::Shed);
        let largest =
            open.filter(|entry| is_meant(entry.calls.peer())).max_by_key(|entry| waiting(entry)).cloned();
        let Some(largest) = largest.filter(|entry| waiting(entry) >= min) else {
            state.next_search = Some(now + SEARCH_PAUSE);
            return false;
        };
        largest.calls.signal(Signal::Shed);
        let left = waiting(&largest) - bytes;
        let peer = largest.calls.peer().cloned();
        state.last_shed = Some(ShedConnection { peer, bytes: left, until: now + SHED_TIME });
        state.shed += 1;
        true
    }

    /// Returns the number of connections that were shed.
    pub(crate) fn shed_count(&self) -> u64 {
        self.lock().shed
    }

    /// Returns what the peers that have most of each occupy.
    pub(crate) fn max_of_one_peer(&self) -> PeerMaximum {
        let mut max = PeerMaximum::default();
        let state = self.lock();
        for (_, peer) in state.by_peer.iter().filter(|(key, _)| has_limits(**key)) {
            max.connections = max.connections.max(peer.connections);
            max.calls = max.calls.max(peer.usage.calls());
            max.bytes = max.bytes.max(peer.usage.bytes());
        }
        max
    }

    /// Returns the number of open connections.
    pub(crate) fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Only counting and waking happen under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, TableState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most that any peer occupies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerMaximum {
    pub(crate) connections: usize,
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
}

impl TableState {
    /// Counts one more connection of a peer.
    fn connect(&mut self, key: PeerKey) -> Arc<PeerUsage> {
        // Those that were left for calls which have ended since.
        if self.by_peer.len() > 2 * self.open.len() + MAX_REFUSING {
            self.by_peer.retain(|_, peer| !peer.is_gone());
        }
        let peer = self.by_peer.entry(key).or_default();
        peer.connections += 1;
        Arc::clone(&peer.usage)
    }

    /// Checks the limits for one more connection.
    fn check(&self, key: PeerKey, limits: &Limits) -> Result<(), Status> {
        let exhausted = |message| Err(Status::refused(Code::ResourceExhausted, message));
        if self.closed {
            return Err(stopping());
        }
        if let Some(limit) = limits.max_connections.filter(|&limit| self.open.len() >= limit) {
            return exhausted(format!("{limit} connections are open on this server"));
        }
        let of_peer = self.by_peer.get(&key).map_or(0, |peer| peer.connections);
        if let Some(limit) =
            limits.max_connections_per_peer.filter(|&limit| has_limits(key) && of_peer >= limit)
        {
            return exhausted(format!("{limit} connections are open from {key}"));
        }
        Ok(())
    }
}

/// Returns `true` if the limits for each peer hold for this one. Those without an address are handed to the server by its own
/// program, which may have its reasons for thousands of them; shares are divided with them as with one peer.
fn has_limits(key: PeerKey) -> bool {
    !key.is_memory()
}

impl Peer {
    fn is_gone(&self) -> bool {
        self.connections == 0 && self.usage.calls() == 0 && !self.usage.is_active()
    }
}

/// The entry of a connection in the table, removed when this is dropped.
pub(crate) struct ConnectionPermit {
    pub(crate) entry: ConnectionEntry,
    key: PeerKey,
    table: Arc<ConnectionTable>,
}

impl ConnectionPermit {
    pub(crate) const fn peer_key(&self) -> PeerKey {
        self.key
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut state = self.table.lock();
        state.open.remove(&self.entry.id);
        if let Some(peer) = state.by_peer.get_mut(&self.key) {
            peer.connections -= 1;
            // A handler may go on for a while, and counts for its peer until it has ended.
            if peer.is_gone() {
                state.by_peer.remove(&self.key);
            }
        }
    }
}

/// A refusal that is being sent, counted until it is dropped.
pub(crate) struct Refusal {
    table: Arc<ConnectionTable>,
}

impl Drop for Refusal {
    fn drop(&mut self) {
        self.table.lock().refusing -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Arc<ConnectionTable> {
        Arc::new(ConnectionTable::new(MemoryBudget::new(Limits::default().memory())))
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_holds_most_for_its_peer_is_shed() {
        let table = table();
        let limits = Limits::default();
        let open =
            |host: u8| match table.admit(&PeerAddress::Tcp(([10, 0, 0, host], 1).into()), None, &limits) {
                Admission::Open(permit) => permit,
                _ => panic!("it is open"),
            };
        let permits = [open(1), open(1), open(2)];
        for (permit, bytes) in permits.iter().zip([MIN_WAITING_BYTES - 1, 4_000_000, 8_000_000]) {
            permit.entry.stats.publish_waiting(bytes);
        }
        assert!(!table.shed(None, 1), "they may be reading just now");
        tokio::time::advance(MIN_SHED_TIME).await;
        let shed = || permits.each_ref().map(|permit| permit.entry.calls.signalled() == Signal::Shed);
        let first = permits[0].entry.calls.peer();
        assert!(!table.shed(first, 1_000_001), "it holds less than four times as much");
        assert!(!table.shed(None, 1), "there was a search just now");
        tokio::time::advance(SEARCH_PAUSE).await;
        assert!(table.shed(first, 1_000_000));
        assert_eq!(shed(), [false, true, false]);
        tokio::time::advance(SHED_TIME).await;
        assert!(table.shed(None, 1_000_000));
        assert_eq!(shed(), [false, true, true]);
        assert!(table.shed(None, 7_000_000), "the last one gave up more than was needed");
        assert!(!table.shed(None, 1), "what the last one holds is too little");
        assert_eq!(table.shed_count(), 2);
    }

    #[test]
    fn calls_that_go_on_after_their_connection_count_for_its_peer() {
        let table = table();
        let limits = Limits::default();
        let peer = PeerAddress::Tcp(([10, 0, 0, 1], 1).into());
        let Admission::Open(first) = table.admit(&peer, None, &limits) else { panic!("it is open") };
        let usage = Arc::clone(first.entry.calls.peer().expect("it has an address"));
        usage.call_began();
        drop(first);
        let Admission::Open(second) = table.admit(&peer, None, &limits) else { panic!("it is open") };
        assert!(Arc::ptr_eq(&usage, second.entry.calls.peer().expect("it has an address")));
        usage.call_ended();
        drop(second);
        assert!(table.lock().by_peer.is_empty());
    }

    #[test]
    fn peers_without_an_address_are_one_while_any_of_their_calls_goes_on() {
        let table = table();
        let limits = Limits::default();
        let admit = || match table.admit(&PeerAddress::Memory, None, &limits) {
            Admission::Open(permit) => permit,
            _ => panic!("it is open"),
        };
        let usage = || Arc::clone(&table.lock().by_peer[&PeerAddress::Memory.key()].usage);
        let (first, of_first) = (admit(), usage());
        let sharer = Sharer::new(Arc::clone(&of_first), Arc::clone(&table.active_peers));
        sharer.became_active();
        drop(first);
        let second = admit();
        assert!(Arc::ptr_eq(&usage(), &of_first));
        sharer.became_idle();
        drop(second);
        assert!(table.lock().by_peer.is_empty());
    }

    #[test]
    fn connections_beyond_the_refusals_under_way_are_dropped() {
        let table = table();
        let limits = Limits::default().max_connections(0);
        let admit = || table.admit(&PeerAddress::Memory, None, &limits);
        let mut refused: Vec<_> = (0..MAX_REFUSING).map(|_| admit()).collect();
        assert!(refused.iter().all(|admission| matches!(admission, Admission::Refused(..))));
        assert!(matches!(admit(), Admission::Dropped));
        refused.pop();
        assert!(matches!(admit(), Admission::Refused(..)));
    }

    #[test]
    fn closed_table_signals_its_connections_and_admits_none() {
        let table = table();
        let limits = Limits::default();
        let Admission::Open(before) = table.admit(&PeerAddress::Memory, None, &limits) else {
            panic!("it is open")
        };
        table.close(Signal::Drain);
        assert_eq!(before.entry.calls.signalled(), Signal::Drain);
        let Admission::Refused(status, _) = table.admit(&PeerAddress::Memory, None, &limits) else {
            panic!("it is closed")
        };
        assert_eq!(status.code, Code::Unavailable);
    }

    #[test]
    fn ended_connection_makes_room_for_another_of_its_peer() {
        let table = table();
        let limits = Limits::default().max_connections_per_peer(1);
        let peer = |port: u16| PeerAddress::Tcp(([10, 0, 0, 1], port).into());
        let first = table.admit(&peer(1), None, &limits);
        assert!(matches!(first, Admission::Open(_)));
        let Admission::Refused(status, _) = table.admit(&peer(2), None, &limits) else {
            panic!("it has one connection")
        };
        assert_eq!(status.message, "1 connections are open from 10.0.0.1");
        drop(first);
        assert!(matches!(table.admit(&peer(2), None, &limits), Admission::Open(_)));
        assert!(table.lock().by_peer.is_empty());
    }

    /// Returns how many of these peers, who come one after the other, are admitted.
    fn admitted(peers: &[PeerAddress], limits: &Limits) -> usize {
        let table = table();
        let admissions: Vec<_> = peers.iter().map(|peer| table.admit(peer, None, limits)).collect();
        admissions.iter().filter(|admission| matches!(admission, Admission::Open(_))).count()
    }

    #[test]
    fn connections_are_counted_by_ipv6_network_and_by_local_user() {
        let limits = Limits::default().max_connections_per_peer(3);
        let ipv6 = |last: u16| PeerAddress::Tcp(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 7).into());
        let one_network: Vec<_> = (1..=10).map(ipv6).collect();
        assert_eq!(admitted(&one_network, &limits), 3);
        let one_user: Vec<_> = (1..=10).map(|pid| PeerAddress::unix(Some(pid), Some(1000))).collect();
        assert_eq!(admitted(&one_user, &limits), 3);
        let each_another: Vec<_> = (1..=10).map(|uid| PeerAddress::unix(Some(1), Some(uid))).collect();
        assert_eq!(admitted(&each_another, &limits), 10);
        assert_eq!(admitted(&[PeerAddress::unix(None, None); 10], &limits), 3);
        // The program itself hands them over.
        assert_eq!(admitted(&[PeerAddress::Memory; 10], &limits), 10);
    }

    #[test]
    fn without_limits_connections_are_admitted() {
        let table = table();
        let limits = Limits::default().max_connections(None).max_connections_per_peer(None);
        let peer = PeerAddress::Tcp(([10, 0, 0, 1], 7).into());
        let admitted: Vec<_> = (0..10).map(|_| table.admit(&peer, None, &limits)).collect();
        assert!(admitted.iter().all(|admission| matches!(admission, Admission::Open(_))));
    }
}
