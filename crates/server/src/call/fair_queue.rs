//! [`FairQueue`]: jobs in an order that divides time fairly, first between peers, then between the clients of each, then
//! between each client's methods. It has no clock and no threads: those are for [`super::offload`].
//!
//! This is hierarchical start-time fair queueing, by Goyal, Vin and Cheng (1996): at each level, the next job is of the one
//! that has had least time, but who is idle saves up none. The time that a job takes is known only at its end; until then,
//! it is charged as what the jobs of its flow took before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// The origin of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    /// A number that distinguishes the peer from others, whose many connections get no more time.
    pub(crate) peer: u64,
    /// A number that distinguishes the connection, or the caller that comes over none, from the server's others.
    pub(crate) client: u64,
    /// A number that distinguishes the method from the server's others.
    pub(crate) method: usize,
}

/// The position of a job in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    flow: Flow,
    number: u64,
}

/// A job that was taken: what is charged to its flow until it has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    flow: Flow,
    charged: Duration,
}

/// Queued jobs.
pub(crate) struct FairQueue<J> {
    peers: Level<J>,
    queued: usize,
    last_number: u64,
}

/// Those among which time is divided at one level: peers, the clients of a peer, or the methods of a client.
struct Level<J> {
    /// Those with jobs, queued or taken, and those that have had more than their share.
    nodes: HashMap<u64, Node<J>>,
    /// Those with queued jobs: by their start tags, then by the time of their last turn.
    order: BTreeSet<Key>,
    /// The time that each with jobs has had since the beginning, if it had them all the time.
    virtual_time: Duration,
    /// The number of those with jobs.
    busy: usize,
}

/// The start tag of a node, its turn, and its id.
type Key = (Duration, u64, u64);

/// One peer, client or method.
struct Node<J> {
    /// The start tag of its next job: the time that it has had.
    start: Duration,
    /// The number of the last job when it last had a turn, or began to queue: those that have had as much time take turns.
    turn: u64,
    queued: usize,
    taken: usize,
    content: Content<J>,
}

enum Content<J> {
    Nodes(Level<J>),
    Jobs(Jobs<J>),
}

/// The queued jobs of one flow.
struct Jobs<J> {
    flow: Flow,
    /// In the order in which they came.
    queued: BTreeMap<u64, J>,
    /// The time of the last job. Charged in advance for the next.
    last: Duration,
}

/// The time that each job is charged with at least: to hand it over takes about as long.
const MIN_CHARGE: Duration = Duration::from_micros(10);
/// The number of peers, and of clients of each, among which one is looked for that no thread serves: those that have had least
/// time come first, and each job that waits for long looks for one.
const MAX_SEARCHED: usize = 64;
/// The number of those without jobs that are remembered at a level in addition to as many as have jobs.
const MAX_IDLE: usize = 64;

impl Flow {
    /// Returns what identifies it at each level.
    const fn path(self) -> [u64; 3] {
        [self.peer, self.client, self.method as u64]
    }
}

impl<J> FairQueue<J> {
    pub(crate) fn new() -> Self {
        Self { peers: Level::new(), queued: 0, last_number: 0 }
    }

    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.queued
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Adds a job.
    pub(crate) fn push(&mut self, flow: Flow, job: J) -> Ticket {
        self.last_number += 1;
        self.queued += 1;
        let ticket = Ticket { flow, number: self.last_number };
        self.peers.push(&flow.path(), ticket, job);
        ticket
    }

    /// Removes a job that was not taken.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<J> {
        let job = self.peers.remove(&ticket.flow.path(), ticket.number)?;
        self.queued -= 1;
        Some(job)
    }

    /// Takes the next job.
    pub(crate) fn take(&mut self) -> Option<(J, Taken)> {
        self.take_of(&[])
    }

    /// Takes the next job of a client that has none taken, and whose next job fits.
    pub(crate) fn take_unserved(&mut self, fits: impl Fn(&J) -> bool) -> Option<(J, Taken)> {
        let client = self.unserved(fits)?;
        self.take_of(&client)
    }

    /// Returns `true` if [`FairQueue::take_unserved`] would take a job.
    pub(crate) fn has_unserved(&self, fits: impl Fn(&J) -> bool) -> bool {
        self.unserved(fits).is_some()
    }

    /// Returns the peer and the number of such a client.
    fn unserved(&self, fits: impl Fn(&J) -> bool) -> Option<[u64; 2]> {
        self.peers.in_order().take(MAX_SEARCHED).find_map(|(peer, node)| {
            let Content::Nodes(clients) = &node.content else { return None };
            let mut clients = clients.in_order().take(MAX_SEARCHED);
            let (client, _) =
                clients.find(|(_, client)| client.taken == 0 && client.first().is_some_and(&fits))?;
            Some([peer, client])
        })
    }

    fn take_of(&mut self, path: &[u64]) -> Option<(J, Taken)> {
        let taken = self.peers.take(path, self.last_number)?;
        self.queued -= 1;
        Some(taken)
    }

    /// Ends a job that was taken, after the time that it took.
    pub(crate) fn finish(&mut self, taken: Taken, took: Duration) {
        self.peers.finish(&taken.flow.path(), taken.charged, took.max(MIN_CHARGE));
    }
}

impl<J> Level<J> {
    fn new() -> Self {
        Self { nodes: HashMap::new(), order: BTreeSet::new(), virtual_time: Duration::ZERO, busy: 0 }
    }

    /// Returns the nodes with queued jobs, the next one first.
    fn in_order(&self) -> impl Iterator<Item = (u64, &Node<J>)> {
        self.order.iter().map(|(_, _, id)| (*id, &self.nodes[id]))
    }

    fn push(&mut self, path: &[u64], ticket: Ticket, job: J) {
        let Some((&id, path)) = path.split_first() else { return };
        // Not behind those that have had less than their share: who comes now is none of those with many jobs.
        let virtual_time =
            self.order.first().map_or(self.virtual_time, |(start, ..)| self.virtual_time.min(*start));
        let node = self.nodes.entry(id).or_insert_with(|| Node::new(path.is_empty().then_some(ticket.flow)));
        if node.is_idle() {
            node.start = node.start.max(virtual_time);
            self.busy += 1;
        }
        let key = node.key(id);
        if node.queued == 0 {
            node.turn = ticket.number;
        }
        node.queued += 1;
        match &mut node.content {
            Content::Nodes(nodes) => nodes.push(path, ticket, job),
            Content::Jobs(jobs) => {
                jobs.queued.insert(ticket.number, job);
            }
        }
        self.reorder(id, key);
    }

    fn remove(&mut self, path: &[u64], number: u64) -> Option<J> {
        let (&id, path) = path.split_first()?;
        let node = self.nodes.get_mut(&id)?;
        let key = node.key(id);
        let job = match &mut node.content {
            Content::Nodes(nodes) => nodes.remove(path, number)?,
            Content::Jobs(jobs) => jobs.queued.remove(&number)?,
        };
        node.queued -= 1;
        self.reorder(id, key);
        self.settle(id);
        Some(job)
    }

    /// Takes the next job of those along the path, which may end before the last level. `turn` is the number of the last job.
    fn take(&mut self, path: &[u64], turn: u64) -> Option<(J, Taken)> {
        let next = || self.order.first().map(|(_, _, id)| *id);
        let id = path.first().copied().or_else(next)?;
        let node = self.nodes.get_mut(&id)?;
        let key = node.key(id);
        let (job, taken) = match &mut node.content {
            Content::Nodes(nodes) => nodes.take(path.get(1..).unwrap_or_default(), turn)?,
            Content::Jobs(jobs) => {
                let (_, job) = jobs.queued.pop_first()?;
                (job, Taken { flow: jobs.flow, charged: jobs.last })
            }
        };
        node.start += taken.charged;
        node.turn = turn;
        node.taken += 1;
        node.queued -= 1;
        self.reorder(id, key);
        Some((job, taken))
    }

    fn finish(&mut self, path: &[u64], charged: Duration, took: Duration) {
        let Some((&id, path)) = path.split_first() else { return };
        self.virtual_time += took / u32::try_from(self.busy).unwrap_or(u32::MAX).max(1);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let key = node.key(id);
        node.start = (node.start + took).saturating_sub(charged);
        node.taken -= 1;
        match &mut node.content {
            Content::Nodes(nodes) => nodes.finish(path, charged, took),
            Content::Jobs(jobs) => jobs.last = took,
        }
        self.reorder(id, key);
        self.settle(id);
    }

    /// Moves a node to its place in the order. `old` is its key before it changed.
    fn reorder(&mut self, id: u64, old: Option<Key>) {
        let new = self.nodes.get(&id).and_then(|node| node.key(id));
        if old != new {
            old.map(|old| self.order.remove(&old));
            self.order.extend(new);
        }
    }

    /// Forgets a node without jobs, unless it has had more than its share; and all such nodes if there are many.
    fn settle(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if !node.is_idle() {
            return;
        }
        self.busy -= 1;
        if let Content::Nodes(nodes) = &mut node.content {
            *nodes = Self::new();
        }
        if node.start <= self.virtual_time {
            self.nodes.remove(&id);
        } else if self.nodes.len() > 2 * self.busy + MAX_IDLE {
            self.nodes.retain(|_, node| !node.is_idle());
        }
    }
}

impl<J> Node<J> {
    /// Creates one without jobs. `flow` is that of a method.
    fn new(flow: Option<Flow>) -> Self {
        let content = match flow {
            Some(flow) => Content::Jobs(Jobs { flow, queued: BTreeMap::new(), last: MIN_CHARGE }),
            None => Content::Nodes(Level::new()),
        };
        Self { start: Duration::ZERO, turn: 0, queued: 0, taken: 0, content }
    }

    const fn is_idle(&self) -> bool {
        self.queued == 0 && self.taken == 0
    }

    /// Returns its place among those with queued jobs; `None` if it has none.
    fn key(&self, id: u64) -> Option<Key> {
        (self.queued > 0).then_some((self.start, self.turn, id))
    }

    /// Returns its next job.
    fn first(&self) -> Option<&J> {
        match &self.content {
            Content::Nodes(nodes) => nodes.in_order().next()?.1.first(),
            Content::Jobs(jobs) => jobs.queued.values().next(),
        }
    }
}

#[cfg(test)]
mod tests;
