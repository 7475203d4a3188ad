//! [`ConnectionTable`]: the open connections of a server, with limits in all and per peer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farcall_protocol::{Code, Status};
use farcall_transport::{PeerAddress, Scheme};

use crate::call::in_flight::{InFlightCalls, Signal};
use crate::connection::stats::ConnectionStats;
use crate::error::stopping;
use crate::limits::Limits;

/// The open connections of a server.
#[derive(Default)]
pub(crate) struct ConnectionTable(Mutex<TableState>);

#[derive(Default)]
struct TableState {
    /// The open connections, including those in their handshake. Bounded by `max_connections`.
    open: HashMap<u64, ConnectionEntry>,
    /// The number of connections of each peer. Bounded by `open`.
    by_peer: HashMap<IpAddr, usize>,
    /// Connections that are being refused with a status. Bounded by [`MAX_REFUSING`].
    refusing: usize,
    last_id: u64,
    /// `true` once no connection is admitted any more.
    closed: bool,
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
    /// Adds a connection, or returns why it is refused.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: &PeerAddress,
        scheme: Option<Scheme>,
        limits: &Limits,
    ) -> Admission {
        let mut state = self.lock();
        let ip = peer.ip();
        let Err(status) = state.check(ip, limits) else {
            state.last_id += 1;
            let id = state.last_id;
            let stats = Arc::new(ConnectionStats::new(peer, scheme));
            let entry = ConnectionEntry { id, calls: Arc::default(), stats };
            state.open.insert(id, entry.clone());
            if let Some(ip) = ip {
                *state.by_peer.entry(ip).or_default() += 1;
            }
            return Admission::Open(ConnectionPermit { entry, ip, table: Arc::clone(self) });
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

    /// Returns the open connections, in no order.
    pub(crate) fn list(&self) -> Vec<ConnectionEntry> {
        self.lock().open.values().cloned().collect()
    }

    /// Returns the number of connections of the peer that has most.
    pub(crate) fn max_of_one_peer(&self) -> usize {
        self.lock().by_peer.values().copied().max().unwrap_or(0)
    }

    /// Returns the number of open connections.
    pub(crate) fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Only counting and waking happen under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, TableState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableState {
    /// Checks the limits for one more connection.
    fn check(&self, ip: Option<IpAddr>, limits: &Limits) -> Result<(), Status> {
        let exhausted = |message| Err(Status::refused(Code::ResourceExhausted, message));
        if self.closed {
            return Err(stopping());
        }
        if let Some(limit) = limits.max_connections.filter(|&limit| self.open.len() >= limit) {
            return exhausted(format!("{limit} connections are open on this server"));
        }
        let of_peer = ip.and_then(|ip| self.by_peer.get(&ip).copied()).unwrap_or(0);
        let per_peer = limits.max_connections_per_peer.filter(|&limit| of_peer >= limit);
        if let (Some(ip), Some(limit)) = (ip, per_peer) {
            return exhausted(format!("{limit} connections are open from {ip}"));
        }
        Ok(())
    }
}

/// The entry of a connection in the table, removed when this is dropped.
pub(crate) struct ConnectionPermit {
    pub(crate) entry: ConnectionEntry,
    ip: Option<IpAddr>,
    table: Arc<ConnectionTable>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut state = self.table.lock();
        state.open.remove(&self.entry.id);
        let Some(ip) = self.ip else { return };
        if let Some(count) = state.by_peer.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                state.by_peer.remove(&ip);
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

    #[test]
    fn connections_beyond_the_refusals_under_way_are_dropped() {
        let table = Arc::new(ConnectionTable::default());
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
        let table = Arc::new(ConnectionTable::default());
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
        let table = Arc::new(ConnectionTable::default());
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

    #[test]
    fn without_limits_connections_are_admitted() {
        let table = Arc::new(ConnectionTable::default());
        let limits = Limits::default().max_connections(None).max_connections_per_peer(None);
        let peer = PeerAddress::Tcp(([10, 0, 0, 1], 7).into());
        let admitted: Vec<_> = (0..10).map(|_| table.admit(&peer, None, &limits)).collect();
        assert!(admitted.iter().all(|admission| matches!(admission, Admission::Open(_))));
    }
}
