//! The places of connections: how many there are, in all and from one peer, and who has one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farcall_protocol::{Code, Status};
use farcall_transport::{PeerAddress, Scheme};

use crate::call::in_flight::{Calls, Signal};
use crate::connection::handshake::stopping;
use crate::connection::stats::Facts;
use crate::limits::Limits;

/// All places of a server.
#[derive(Default)]
pub(crate) struct Places(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    /// The connections that are open, handshakes included. Bounded by `max_connections`.
    open: HashMap<u64, Open>,
    /// How many of them each peer has. Bounded by `open`.
    by_peer: HashMap<IpAddr, usize>,
    /// Connections that are being told that there is no place.
    refusing: usize,
    last_id: u64,
    /// Whether the server has stopped taking connections.
    closed: bool,
}

/// An open connection, for whoever asks something of it or looks at it.
#[derive(Clone)]
pub(crate) struct Open {
    /// The connection's number, which no other has had.
    pub(crate) id: u64,
    pub(crate) calls: Arc<Calls>,
    pub(crate) facts: Arc<Facts>,
}

/// Refusals that are spoken at once. Beyond them, connections are just closed.
const MAX_REFUSING: usize = 64;

/// Whether a connection has a place.
pub(crate) enum Admission {
    /// It has.
    Open(Place),
    /// It has none, and is told so.
    Refused(Status, Refusal),
    /// It has none, and so many are being told so that it is not.
    Dropped,
}

impl Places {
    /// Gives a connection its place, or says why there is none.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: &PeerAddress,
        scheme: Option<Scheme>,
        limits: &Limits,
    ) -> Admission {
        let mut taken = self.lock();
        let ip = peer.ip();
        let of_peer = ip.and_then(|ip| taken.by_peer.get(&ip).copied()).unwrap_or(0);
        let exhausted = |message| Status::refused(Code::ResourceExhausted, message);
        let status = if taken.closed {
            stopping()
        } else if taken.open.len() >= limits.max_connections {
            exhausted(format!("{} connections are open on this server", limits.max_connections))
        } else if let Some(ip) = ip.filter(|_| of_peer >= limits.max_connections_per_peer) {
            exhausted(format!("{} connections are open from {ip}", limits.max_connections_per_peer))
        } else {
            taken.last_id += 1;
            let id = taken.last_id;
            let open = Open { id, calls: Arc::default(), facts: Arc::new(Facts::new(peer, scheme)) };
            taken.open.insert(id, open.clone());
            if let Some(ip) = ip {
                *taken.by_peer.entry(ip).or_default() += 1;
            }
            return Admission::Open(Place { open, ip, places: Arc::clone(self) });
        };
        if taken.refusing >= MAX_REFUSING {
            return Admission::Dropped;
        }
        taken.refusing += 1;
        Admission::Refused(status, Refusal { places: Arc::clone(self) })
    }

    /// Gives no place any more, and asks `signal` of those who have one. Nobody slips through: a
    /// connection is there to be asked, or comes too late for a place.
    pub(crate) fn close(&self, signal: Signal) {
        let mut taken = self.lock();
        taken.closed = true;
        for open in taken.open.values() {
            open.calls.signal(signal);
        }
    }

    /// Stops the calls of all connections.
    pub(crate) fn cut(&self) {
        for open in self.lock().open.values() {
            open.calls.cut();
        }
    }

    /// The connections that have a place, in no order.
    pub(crate) fn list(&self) -> Vec<Open> {
        self.lock().open.values().cloned().collect()
    }

    /// How many connections the peer with the most of them has.
    pub(crate) fn most_of_one_peer(&self) -> usize {
        self.lock().by_peer.values().copied().max().unwrap_or(0)
    }

    /// How many connections have a place.
    pub(crate) fn open(&self) -> usize {
        self.lock().open.len()
    }

    /// Nothing but counting and waking happens under this lock.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place. It is given back however the connection ends.
pub(crate) struct Place {
    pub(crate) open: Open,
    ip: Option<IpAddr>,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.open.remove(&self.open.id);
        let Some(ip) = self.ip else { return };
        if let Some(count) = taken.by_peer.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                taken.by_peer.remove(&ip);
            }
        }
    }
}

/// A refusal that is being spoken. It is counted however it ends.
pub(crate) struct Refusal {
    places: Arc<Places>,
}

impl Drop for Refusal {
    fn drop(&mut self) {
        self.places.lock().refusing -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_beyond_a_few_are_not_spoken() {
        let places = Arc::new(Places::default());
        let limits = Limits::default().max_connections(0);
        let admit = || places.admit(&PeerAddress::Memory, None, &limits);
        let mut refused: Vec<_> = (0..MAX_REFUSING).map(|_| admit()).collect();
        assert!(refused.iter().all(|admission| matches!(admission, Admission::Refused(..))));
        assert!(matches!(admit(), Admission::Dropped));
        refused.pop();
        assert!(matches!(admit(), Admission::Refused(..)));
    }

    #[test]
    fn nobody_gets_a_place_once_it_is_closed() {
        let places = Arc::new(Places::default());
        let limits = Limits::default();
        let Admission::Open(before) = places.admit(&PeerAddress::Memory, None, &limits) else {
            panic!("it is open")
        };
        places.close(Signal::Drain);
        assert_eq!(before.open.calls.signalled(), Signal::Drain);
        let Admission::Refused(status, _) = places.admit(&PeerAddress::Memory, None, &limits) else {
            panic!("it is closed")
        };
        assert_eq!(status.code, Code::Unavailable);
    }

    #[test]
    fn a_place_comes_back_to_its_peer() {
        let places = Arc::new(Places::default());
        let limits = Limits::default().max_connections_per_peer(1);
        let peer = |port: u16| PeerAddress::Tcp(([10, 0, 0, 1], port).into());
        let first = places.admit(&peer(1), None, &limits);
        assert!(matches!(first, Admission::Open(_)));
        let Admission::Refused(status, _) = places.admit(&peer(2), None, &limits) else {
            panic!("it has one")
        };
        assert_eq!(status.message, "1 connections are open from 10.0.0.1");
        drop(first);
        assert!(matches!(places.admit(&peer(2), None, &limits), Admission::Open(_)));
        assert!(places.lock().by_peer.is_empty());
    }
}
