//! [`Network`]: the nodes of a simulation, the ways between them, and the faults of both.

mod connection;
mod link;
mod node_id;
mod pipe;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use farcall::transport::{PeerAddress, Stream};
use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::sleep;

use self::connection::{Connection, Side};
pub use self::link::Link;
pub(crate) use self::node_id::{Incarnation, NodeId};
use self::stream::SimStream;
use crate::offload::Workers;
use crate::trace::Trace;

/// Takes the streams that arrive at a port.
pub(crate) type Accept = Arc<dyn Fn(Stream, PeerAddress) + Send + Sync>;

/// The nodes, the ways between them, and the connections.
pub(crate) struct Network {
    state: Mutex<State>,
    /// Wakes dials that wait for a way.
    changed: Notify,
    trace: Trace,
    workers: Workers,
}

struct State {
    random: Rng,
    nodes: Vec<NodeState>,
    link: Link,
    links: BTreeMap<(NodeId, NodeId), Link>,
    /// Ways on which nothing arrives.
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Those that are open, and some that were.
    connections: BTreeMap<u64, Weak<Connection>>,
    dials: u64,
}

struct NodeState {
    name: String,
    incarnation: u64,
    is_frozen: bool,
    ports: BTreeMap<u16, Accept>,
}

/// The longest time until a dial is tried again after a cut, as the kernel repeats the first packet.
const MAX_DIAL_PAUSE_MS: u64 = 1000;

impl Network {
    pub(crate) fn new(random: Rng, trace: Trace) -> Self {
        let state = State {
            random,
            nodes: Vec::new(),
            link: Link::default(),
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            connections: BTreeMap::new(),
            dials: 0,
        };
        Self { state: Mutex::new(state), changed: Notify::new(), trace, workers: Workers::default() }
    }

    /// Returns the polls that servers have moved to other threads.
    pub(crate) const fn workers(&self) -> &Workers {
        &self.workers
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Returns the node of this name, which is made if there is none.
    pub(crate) fn node(&self, name: &str) -> NodeId {
        let mut state = self.lock();
        if let Some(node) = state.find(name) {
            return node;
        }
        let (name, ports) = (name.to_owned(), BTreeMap::new());
        state.nodes.push(NodeState { name, incarnation: 0, is_frozen: false, ports });
        NodeId(state.nodes.len() - 1)
    }

    /// Returns the present life of a node.
    pub(crate) fn incarnation(&self, node: NodeId) -> Incarnation {
        Incarnation { node, number: self.lock().nodes[node.0].incarnation }
    }

    /// Accepts streams at a port of a node.
    pub(crate) fn listen(&self, node: NodeId, port: u16, accept: Accept) {
        self.lock().nodes[node.0].ports.insert(port, accept);
    }

    /// Returns `true` if streams are accepted at a port of a node.
    pub(crate) fn listens(&self, node: NodeId, port: u16) -> bool {
        self.lock().nodes[node.0].ports.contains_key(&port)
    }

    /// Accepts no further streams at a port of a node, if this is its present life.
    pub(crate) fn close_port(&self, node: Incarnation, port: u16) {
        let state = &mut *self.lock();
        if state.is_alive(node) {
            state.nodes[node.node.0].ports.remove(&port);
        }
    }

    /// Ends the life of a node: its ports are closed, and its connections reset.
    pub(crate) fn kill(&self, node: NodeId) {
        let mut state = self.lock();
        state.nodes[node.0].incarnation += 1;
        state.nodes[node.0].ports.clear();
        state.nodes[node.0].is_frozen = false;
        for connection in state.open() {
            for side in [Side::Dialer, Side::Listener] {
                if connection.nodes[side as usize] == node {
                    connection.kill(side);
                }
            }
        }
        drop(state);
        self.update();
    }

    /// Changes the ways that have no setting.
    pub(crate) fn set_default_link(&self, link: Link) {
        self.lock().link = link;
    }

    /// Changes the way from one node to another, for connections that are opened after this.
    pub(crate) fn set_link(&self, from: NodeId, to: NodeId, link: Link) {
        self.lock().links.insert((from, to), link);
    }

    /// Cuts or heals the way from one node to another.
    pub(crate) fn set_cut(&self, from: NodeId, to: NodeId, is_cut: bool) {
        let mut state = self.lock();
        if is_cut {
            state.cuts.insert((from, to));
        } else {
            state.cuts.remove(&(from, to));
        }
        drop(state);
        self.update();
    }

    /// Heals all ways.
    pub(crate) fn heal(&self) {
        self.lock().cuts.clear();
        self.update();
    }

    /// Freezes or thaws a node.
    pub(crate) fn set_frozen(&self, node: NodeId, is_frozen: bool) {
        self.lock().nodes[node.0].is_frozen = is_frozen;
        self.update();
    }

    /// Resets the connections between two nodes.
    pub(crate) fn reset(&self, one: NodeId, other: NodeId) {
        for connection in self.lock().open() {
            if connection.nodes == [one, other] || connection.nodes == [other, one] {
                connection.reset();
            }
        }
    }

    /// Returns the number of open connections.
    pub(crate) fn connections(&self) -> usize {
        self.lock().open().len()
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self, from: Incarnation, host: &str, port: u16) -> io::Result<Stream> {
        let to = self.lock().find(host);
        let to = to.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "no node has this name"))?;
        self.way(from.node, to).await;
        let pause = {
            let mut state = self.lock();
            let links = [state.link(from.node, to), state.link(to, from.node)];
            links.map(|link| link.draw_latency(&mut state.random)).iter().sum()
        };
        sleep(pause).await;
        // The answer may have been cut off meanwhile.
        self.way(from.node, to).await;
        let (near, far, accept, peer) = {
            let mut state = self.lock();
            if !state.is_alive(from) {
                return Err(io::Error::new(ErrorKind::NetworkDown, "the node was killed"));
            }
            state.dials += 1;
            let number = state.dials;
            let names = [from.node, to].map(|node| state.nodes[node.0].name.clone());
            let Some(accept) = state.nodes[to.0].ports.get(&port).cloned() else {
                self.trace.note(format_args!("{} -> {}:{port} refused", names[0], names[1]));
                return Err(io::Error::new(ErrorKind::ConnectionRefused, "no server at this address"));
            };
            self.trace.note(format_args!("{} -> {}:{port} is connection {number}", names[0], names[1]));
            let links = [state.link(from.node, to), state.link(to, from.node)];
            let mut random = state.random.fork();
            let trace = self.trace.clone();
            let connection = Connection::new(number, [from.node, to], links, &mut random, trace);
            connection.set_cut(state.cut(&connection));
            state.connections.retain(|_, connection| connection.strong_count() > 0);
            state.connections.insert(number, Arc::downgrade(&connection));
            let near = SimStream::new(Arc::clone(&connection), Side::Dialer);
            let peer = SocketAddr::new(ip(from.node), 40_000 + (number % 20_000) as u16);
            (near, SimStream::new(connection, Side::Listener), accept, PeerAddress::Tcp(peer))
        };
        accept(Stream::new(far), peer);
        Ok(Stream::new(near))
    }

    /// Waits until packets pass both ways between two nodes. A frozen node still connects: its kernel does.
    async fn way(&self, from: NodeId, to: NodeId) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.lock();
                let is_cut = state.cuts.contains(&(from, to)) || state.cuts.contains(&(to, from));
                if !is_cut && !state.nodes[from.0].is_frozen {
                    return;
                }
            }
            changed.await;
            let pause = self.lock().random.u64(0..=MAX_DIAL_PAUSE_MS);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Applies what has changed to the open connections.
    fn update(&self) {
        let mut state = self.lock();
        for connection in state.open() {
            connection.set_cut(state.cut(&connection));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name).map(NodeId)
    }

    fn is_alive(&self, node: Incarnation) -> bool {
        self.nodes[node.node.0].incarnation == node.number
    }

    fn link(&self, from: NodeId, to: NodeId) -> Link {
        self.links.get(&(from, to)).unwrap_or(&self.link).clone()
    }

    /// Returns the open connections, the oldest first.
    fn open(&mut self) -> Vec<Arc<Connection>> {
        self.connections.values().filter_map(Weak::upgrade).collect()
    }

    /// Returns which directions of a connection are cut.
    fn cut(&self, connection: &Connection) -> [bool; 2] {
        let [dialer, listener] = connection.nodes;
        let is_frozen = [dialer, listener].iter().any(|node| self.nodes[node.0].is_frozen);
        [(dialer, listener), (listener, dialer)].map(|way| is_frozen || self.cuts.contains(&way))
    }
}

/// Returns the address of a node that servers see.
fn ip(node: NodeId) -> IpAddr {
    let number = node.0 as u32 + 1;
    IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number))
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.lock().nodes.iter().map(|node| node.name.clone()).collect();
        f.debug_struct("Network").field("nodes", &names).finish_non_exhaustive()
    }
}
