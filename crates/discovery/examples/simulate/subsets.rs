//! The connections of a large fleet whose clients use subsets, and what changes when servers come and go.

use std::collections::BTreeSet;
use std::sync::Arc;

use farcall_discovery::{Balancer, Candidate, Candidates, Subset};

use crate::run::endpoint;

/// A fleet of this many clients and servers.
pub(crate) const FLEET: usize = 1_000;
/// The clients of the tables about changes, which take a subset for each change.
const CLIENTS: usize = 50;
/// Servers that leave, one after another.
const SOME: usize = 10;
/// Servers that restart at once.
const BATCH: usize = 50;

/// The number of connections to each server.
pub(crate) struct Spread {
    /// All of them, in order.
    pub(crate) connections: Vec<usize>,
}

/// Members that clients changed.
pub(crate) struct Churn {
    /// The part of the clients that changed any.
    pub(crate) clients: f64,
    /// The most that one client changed.
    pub(crate) most: usize,
    /// The mean of all clients.
    pub(crate) mean: f64,
}

/// Returns the connections to each of the fleet's servers with subsets of this size.
pub(crate) fn spread(size: usize) -> Spread {
    let all = servers(|_| true);
    let mut connections = vec![0; FLEET];
    for client in 0..FLEET {
        members(size, client, &all).into_iter().for_each(|id| connections[id as usize] += 1);
    }
    connections.sort_unstable();
    Spread { connections }
}

/// Returns the changes when one server leaves, for each of some.
pub(crate) fn leaves(size: usize) -> Churn {
    let all = servers(|_| true);
    let without: Vec<_> = (0..SOME).map(|left| servers(|number| number != left)).collect();
    let changes = |client: usize| {
        let before = members(size, client, &all);
        without.iter().map(move |list| added(&before, &members(size, client, list))).collect::<Vec<_>>()
    };
    Churn::of(&(0..CLIENTS).flat_map(changes).collect::<Vec<_>>())
}

/// Returns the changes while all servers restart, some at a time, with the same addresses: each leaves and comes back.
pub(crate) fn restart(size: usize) -> Churn {
    let batches = (0..FLEET / BATCH).map(|batch| servers(|number| number / BATCH != batch));
    let all = || std::iter::once(servers(|_| true));
    let lists: Vec<_> = all().chain(batches).chain(all()).collect();
    let changes = |client: usize| {
        let members: Vec<_> = lists.iter().map(|list| members(size, client, list)).collect();
        members.windows(2).map(|pair| added(&pair[0], &pair[1])).sum()
    };
    Churn::of(&(0..CLIENTS / 2).map(changes).collect::<Vec<_>>())
}

impl Churn {
    /// Counts changes of clients.
    fn of(changes: &[usize]) -> Self {
        let clients = changes.len() as f64;
        Self {
            clients: changes.iter().filter(|changes| **changes > 0).count() as f64 / clients,
            most: changes.iter().copied().max().unwrap_or_default(),
            mean: changes.iter().sum::<usize>() as f64 / clients,
        }
    }
}

/// Returns the number of members that were not there before.
fn added(before: &BTreeSet<u64>, after: &BTreeSet<u64>) -> usize {
    after.difference(before).count()
}

fn members(size: usize, client: usize, servers: &[(Candidate, bool)]) -> BTreeSet<u64> {
    let mut servers = servers.to_vec();
    let subset = Subset::of(size).client(format!("client-{client}"));
    subset.narrow(&mut servers);
    let candidates = Candidates::select(&servers).expect("no server is drained");
    let picker = subset.picker(&candidates);
    let members = candidates.usable.iter().enumerate().filter(|(index, _)| !picker.is_spare(*index));
    members.map(|(_, candidate)| candidate.id).collect()
}

fn servers(is_there: impl Fn(usize) -> bool) -> Vec<(Candidate, bool)> {
    let candidate =
        |number: usize| (Candidate::new(number as u64, Arc::new(endpoint(number)), Arc::default()), false);
    (0..FLEET).filter(|number| is_there(*number)).map(candidate).collect()
}
