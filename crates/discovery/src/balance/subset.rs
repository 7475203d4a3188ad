//! [`Subset`]: a few endpoints of many, the same ones for as long as they are there.

use twox_hash::XxHash3_64;

use super::{Balancer, Candidate, Candidates, KeySource, LeastLoaded, PickRequest, Picker};
use crate::endpoint::AdvertisedState;

/// Uses a few of many endpoints, and lets any other balancer choose among these.
///
/// A thousand clients that each call all of a thousand servers keep a million connections, nearly all of them idle. With a
/// subset of 20 servers for each client, they keep 20,000.
///
/// ```
/// use farcall_discovery::{PeakEwma, Subset, ZoneFirst};
///
/// let balancer = Subset::of(20); // around `LeastLoaded`
/// let balancer = Subset::of(20).around(PeakEwma).client("shop-7");
/// // 20 endpoints of the client's zone, and 20 elsewhere for calls that leave it.
/// let balancer = ZoneFirst::new("zone-a", balancer);
/// ```
///
/// # Which endpoints
///
/// By rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM
/// Transactions on Networking 6(1), 1998), as gRPC's random subsetting does it (its proposal A68): a hash of the client's key and
/// an endpoint's address puts the endpoints in an order, which differs from client to client. The subset are the first `n` of
/// them that can be used. Therefore:
///
/// - A client with the same key and the same list has the same subset, also after a restart.
/// - An endpoint that leaves is replaced by the next one in order, and nothing else changes; one that joins takes the place
///   of the last one, in one of `servers / n` clients, and in the others nothing changes.
/// - One that cannot be used, because it is drained, unreachable or ejected, is replaced likewise, and takes its place again
///   when it can be used.
/// - Each server is in the subsets of `clients × n / servers` clients on average. They choose independently: with 20 on average,
///   two of three servers have 16 to 24.
///
/// # Which connections
///
/// A channel connects to no endpoint outside of the subset, and probes none. It closes the connection to one that left the
/// subset when the calls over it have ended. A call that has failed at all members, which takes a small subset, goes on to one of the
/// next two in order; members that are down have been replaced soon after. Of the order it uses the first [`Subset::REACH`] × `n` endpoints, at least
/// [`Subset::MIN_REACH`], however many of these fail: a client that is cut off from the network must not try
/// all servers. If none of them can be used, stale endpoints are called, or those of a later priority; if there are none, those of
/// the subset, as without one. A broadcast goes to all endpoints nevertheless.
///
/// # Weights, zones and keys
///
/// Weights count among the members of the subset, not for who is one: they would count twice. Zones do not count, unless
/// [`ZoneFirst`](super::ZoneFirst) is around the subset. With [`ConsistentHash`](super::ConsistentHash) inside, clients with different keys
/// send the same key of a call to different servers.
#[derive(Clone, Debug)]
pub struct Subset<B = LeastLoaded> {
    size: usize,
    client: u64,
    inner: B,
}

/// The members, and a picker that knows them only.
#[derive(Debug)]
struct SubsetPicker {
    picker: Box<dyn Picker>,
    members: Candidates,
    /// Of each member the index among all usable candidates.
    indices: Box<[usize]>,
    /// The other usable candidates in the client's order, for calls that have been to all members.
    others: Box<[(usize, Candidate)]>,
}

/// The place of a candidate in the order of a client, and its index. The least comes first.
type Ranked = (u64, usize);

/// Endpoints after the members in a client's order that calls go to which have been to all members.
const SPARES: usize = 2;

/// More endpoints than a list has.
const MAX_SIZE: usize = 1 << 20;

impl Subset {
    /// Endpoints in a client's order that it deals with, against the size of its subset: if three of four servers are
    /// dead, and the list says otherwise, a subset still has all its members.
    pub const REACH: usize = 4;
    /// The endpoints in its order that a client deals with at least.
    pub const MIN_REACH: usize = 64;

    /// Uses this many endpoints, at least 1, around [`LeastLoaded`].
    ///
    /// Too few, and the servers' shares differ, one that fails takes a large part of a client's calls with it, and balancers
    /// have little choice; too many, and connections cost more than they give. 20 is the default of gRPC and a good start.
    /// Each server gets about clients × n / servers connections; if that is less than 10, some get very few.
    #[must_use]
    pub fn of(size: usize) -> Self {
        Self { size: size.clamp(1, MAX_SIZE), client: fastrand::u64(..), inner: LeastLoaded }
    }
}

impl<B: Balancer> Subset<B> {
    /// Sets the balancer that chooses among the members. Default: [`LeastLoaded`].
    #[must_use]
    pub fn around<Inner: Balancer>(self, inner: Inner) -> Subset<Inner> {
        Subset { size: self.size, client: self.client, inner }
    }

    /// Sets the client's key, such as the name of its pod, so that it has the same subset after a restart. Default: a
    /// random one for each [`Subset::of`]. Clients with the same key have the same subset, and their servers
    /// the connections of all of them.
    #[must_use]
    pub fn client(self, key: impl AsRef<[u8]>) -> Self {
        Self { client: XxHash3_64::oneshot(key.as_ref()), ..self }
    }

    /// Returns the place of a candidate in the order of this client.
    fn rank(&self, (index, candidate): (usize, &Candidate)) -> Ranked {
        let address = candidate.endpoint.address.to_string();
        (XxHash3_64::oneshot_with_seed(self.client, address.as_bytes()), index)
    }

    fn reach(&self) -> usize {
        (self.size * Subset::REACH).max(Subset::MIN_REACH)
    }
}

impl<B: Balancer> Balancer for Subset<B> {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        if candidates.usable.len() <= self.size {
            return self.inner.picker(candidates);
        }
        let mut order: Vec<Ranked> = candidates.usable.iter().enumerate().map(|one| self.rank(one)).collect();
        order.sort_unstable();
        let others = order.split_off(self.size);
        let last = order.last().copied().unwrap_or_default();
        let known = candidates.known.iter().enumerate().filter(|one| self.rank(*one).0 <= last.0);
        let known = known.map(|(_, candidate)| candidate.clone()).collect();
        let mut indices: Box<[usize]> = order.into_iter().map(|(_, index)| index).collect();
        indices.sort_unstable();
        let usable = indices.iter().map(|index| candidates.usable[*index].clone()).collect();
        let members = Candidates { usable, known };
        let others = others.into_iter().map(|(_, index)| (index, candidates.usable[index].clone())).collect();
        Box::new(SubsetPicker { picker: self.inner.picker(&members), members, indices, others })
    }

    fn narrow(&self, found: &mut Vec<(Candidate, bool)>) {
        if found.len() <= self.size {
            return;
        }
        let mut kept = vec![false; found.len()];
        // Apart, since stale endpoints, and those of a later priority, replace the others only if none of these is left.
        for state in [AdvertisedState::Up, AdvertisedState::Stale] {
            let of_state = found.iter().enumerate().filter(|(_, (candidate, _))| {
                candidate.endpoint.state == state && !candidate.endpoint.is_drained()
            });
            let mut order: Vec<Ranked> = of_state.map(|(index, (one, _))| self.rank((index, one))).collect();
            if order.len() > self.reach() {
                order.select_nth_unstable(self.reach());
                order.truncate(self.reach());
            }
            order.sort_unstable();
            let mut missing = self.size + SPARES;
            for (_, index) in order {
                if missing == 0 {
                    break;
                }
                kept[index] = true;
                let (_, is_ejected) = found[index];
                missing -= usize::from(!is_ejected);
            }
        }
        let mut kept = kept.into_iter();
        found.retain(|_| kept.next().unwrap_or_default());
    }

    fn key(&self) -> KeySource {
        self.inner.key()
    }

    fn describe(&self) -> String {
        format!("subset of {}, {}", self.size, self.inner.describe())
    }
}

impl Picker for SubsetPicker {
    fn pick(&self, request: &PickRequest<'_>) -> usize {
        let picked = self.picker.pick(request);
        if request.has_been_to(&self.members.usable, picked)
            && let Some((index, _)) = self.others.iter().find(|(_, other)| !request.has_tried(other))
        {
            return *index;
        }
        self.indices.get(picked).or(self.indices.first()).copied().unwrap_or_default()
    }

    fn is_spare(&self, index: usize) -> bool {
        match self.indices.binary_search(&index) {
            Ok(member) => self.picker.is_spare(member),
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests;
