//! Endpoints with weights and priorities, from the records of an answer. Asks nothing.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use farcall_transport::{Address, Scheme};
use hickory_resolver::proto::rr::{Name, RData, Record};
use tracing::{debug, warn};

use crate::endpoint::{AdvertisedState, Endpoint};

/// More than a name has anywhere; it bounds what a wrong answer can do.
const MAX_RECORDS: usize = 1024;
/// The endpoints of a list, as with addresses of a name.
const MAX_ENDPOINTS: usize = 1024;

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SrvRecord {
    pub(super) priority: u16,
    pub(super) target: Name,
    pub(super) port: u16,
    pub(super) weight: u16,
}

impl SrvRecord {
    /// Returns `true` if it has a target and a port.
    pub(super) fn is_usable(&self) -> bool {
        !self.target.is_root() && self.port != 0
    }
}

/// The answer to a question for SRV records.
#[derive(Debug)]
pub(super) struct Answered {
    /// In the order of priorities.
    pub(super) records: Vec<SrvRecord>,
    /// The time until the first of its records expires.
    pub(super) ttl: Duration,
    /// The addresses of targets that came with it.
    pub(super) addresses: HashMap<Name, Vec<IpAddr>>,
}

/// Reads an answer and what came with it.
pub(super) fn read(answers: &[Record], additionals: &[Record]) -> Answered {
    let mut records: Vec<SrvRecord> = answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(SrvRecord {
                priority: srv.priority,
                target: srv.target.to_lowercase(),
                port: srv.port,
                weight: srv.weight,
            }),
            _ => None,
        })
        .collect();
    records.sort_unstable();
    records.dedup();
    if records.len() > MAX_RECORDS {
        warn!(records = records.len(), used = MAX_RECORDS, "a name has very many SRV records");
        records.truncate(MAX_RECORDS);
    }
    let mut ttl = shortest_ttl(answers);
    let targets: HashSet<&Name> = records.iter().map(|record| &record.target).collect();
    let mut addresses: HashMap<Name, Vec<IpAddr>> = HashMap::new();
    for record in additionals {
        let address = match &record.data {
            RData::A(address) => IpAddr::V4(address.0),
            RData::AAAA(address) => IpAddr::V6(address.0),
            _ => continue,
        };
        let name = record.name.to_lowercase();
        if targets.contains(&name) {
            ttl = ttl.min(Duration::from_secs(record.ttl.into()));
            addresses.entry(name).or_default().push(address);
        }
    }
    Answered { records, ttl, addresses }
}

/// Returns the shortest time to live of some records.
pub(super) fn shortest_ttl(records: &[Record]) -> Duration {
    Duration::from_secs(records.iter().map(|record| record.ttl).min().unwrap_or(0).into())
}

/// Returns `true` if the records say that there is no server.
pub(super) fn says_none(records: &[SrvRecord]) -> bool {
    records.iter().all(|record| record.target.is_root())
}

/// Returns an endpoint for each target.
pub(super) fn by_name(scheme: Scheme, records: &[SrvRecord]) -> Vec<Endpoint> {
    weighed(records, |record, endpoint| {
        let name = record.target.to_ascii();
        let text = format!("{scheme}@{}:{}", name.trim_end_matches('.'), record.port);
        match Address::parse(&text) {
            Ok(address) => endpoint(address, 1),
            Err(error) => debug!(%error, "a target cannot be dialed"),
        }
    })
}

/// Returns an endpoint for each address of each target. The addresses of a target share its weight.
pub(super) fn by_address(
    scheme: Scheme,
    records: &[SrvRecord],
    addresses: &HashMap<Name, Vec<IpAddr>>,
) -> Vec<Endpoint> {
    weighed(records, |record, endpoint| {
        let mut found: Vec<IpAddr> =
            addresses.get(&record.target).into_iter().flatten().map(IpAddr::to_canonical).collect();
        found.retain(|address| !address.is_unspecified());
        found.sort_unstable();
        found.dedup();
        for address in &found {
            let share = u16::try_from(found.len()).unwrap_or(u16::MAX);
            endpoint(Address::tcp(SocketAddr::new(*address, record.port)).with_scheme(scheme), share);
        }
    })
}

/// Gives the addresses of records their weights and priorities, until there are [`MAX_ENDPOINTS`]. `each` calls its second argument with an address of the
/// record, and how many share the record's weight.
fn weighed(
    records: &[SrvRecord],
    mut each: impl FnMut(&SrvRecord, &mut dyn FnMut(Address, u16)),
) -> Vec<Endpoint> {
    let usable = || records.iter().filter(|record| record.is_usable());
    let first = usable().map(|record| record.priority).min();
    let weighted: HashSet<u16> =
        records.iter().filter(|record| record.weight > 0).map(|record| record.priority).collect();
    let mut endpoints = Vec::new();
    // Some kilobytes of records with some more of addresses for each would make millions. The first ones are those of the first
    // priority.
    for record in usable() {
        if endpoints.len() >= MAX_ENDPOINTS {
            break;
        }
        let weight =
            if weighted.contains(&record.priority) { record.weight } else { Endpoint::DEFAULT_WEIGHT };
        let state = if Some(record.priority) == first { AdvertisedState::Up } else { AdvertisedState::Stale };
        each(record, &mut |address, share| {
            let weight = (weight / share).max(1);
            if endpoints.len() < MAX_ENDPOINTS {
                endpoints.push(Endpoint::new(address).with_weight(weight).with_state(state));
            }
        });
    }
    endpoints
}
