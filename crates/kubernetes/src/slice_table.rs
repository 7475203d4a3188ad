//! [`SliceTable`]: the EndpointSlices of one service, and the endpoints that they make together. Requests nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use farcall_discovery::{AdvertisedState, Endpoint};
use farcall_transport::{Address, Scheme};
use tracing::debug;

use crate::limits::MAX_ENDPOINTS;
use crate::wire::{Conditions, Slice, SliceEndpoint};

/// The part of the slices that is taken.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) scheme: Scheme,
    /// The name of the port; without one, the only port.
    pub(crate) port: Option<String>,
    /// The zone of the client, for hints.
    pub(crate) zone: Option<String>,
}

/// The slices of a service, by their names.
#[derive(Debug, Default)]
pub(crate) struct SliceTable {
    slices: BTreeMap<String, Slice>,
    /// The bytes of JSON that they were read from.
    bytes: usize,
}

/// No slice has the port.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortError {
    #[error("no port of the service is named `{name}`; there are {there}")]
    Unknown { name: String, there: String },
    #[error("the service has several ports, {there}: say which one")]
    Ambiguous { there: String },
    #[error("the service has no TCP port")]
    Missing,
}

/// An endpoint, and what decides between several of one pod.
struct Found {
    endpoint: Endpoint,
    is_ipv4: bool,
    for_zones: Vec<String>,
    /// Names the pod; empty if nothing is known about it.
    pod: String,
}

impl SliceTable {
    /// Puts all that was listed in place of what was known.
    pub(crate) fn replace(&mut self, slices: Vec<Slice>) {
        *self = Self::default();
        for slice in slices {
            self.put(slice);
        }
    }

    pub(crate) fn put(&mut self, slice: Slice) {
        self.bytes += slice.bytes;
        if let Some(before) = self.slices.insert(slice.metadata.name.clone(), slice) {
            self.bytes -= before.bytes;
        }
    }

    pub(crate) fn delete(&mut self, slice: &Slice) {
        if let Some(before) = self.slices.remove(&slice.metadata.name) {
            self.bytes -= before.bytes;
        }
    }

    /// Returns the number of bytes of JSON that the slices were read from.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.slices.len()
    }

    /// Returns the number of endpoints in all slices, which may have some of them in common.
    pub(crate) fn endpoint_count(&self) -> usize {
        self.slices.values().map(|slice| slice.endpoints.len()).sum()
    }

    /// Returns the endpoints of all slices.
    pub(crate) fn endpoints(&self, selection: &Selection) -> Result<Vec<Endpoint>, PortError> {
        let name = self.port_name(selection)?;
        let mut found: BTreeMap<Address, Found> = BTreeMap::new();
        for slice in self.slices.values() {
            let Some(port) = slice.tcp_ports().find(|(port, _)| *port == name).map(|(_, port)| port) else {
                continue;
            };
            for endpoint in &slice.endpoints {
                let Some(candidate) = read(slice, endpoint, port, selection.scheme) else { continue };
                match found.entry(candidate.endpoint.address.clone()) {
                    Entry::Vacant(entry) => drop(entry.insert(candidate)),
                    // In two slices while they are rearranged: the one that is ready counts.
                    Entry::Occupied(mut entry) if entry.get().endpoint.is_drained() => {
                        entry.insert(candidate);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
        let mut found: Vec<Found> = found.into_values().collect();
        keep_one_of_each_pod(&mut found);
        apply_hints(&mut found, selection.zone.as_deref());
        let mut endpoints: Vec<Endpoint> = found.into_iter().map(|found| found.endpoint).collect();
        // If all pods are terminating, those that still serve are better than none.
        if endpoints.iter().all(Endpoint::is_drained) {
            for endpoint in &mut endpoints {
                endpoint.state = AdvertisedState::Stale;
            }
        }
        endpoints.truncate(MAX_ENDPOINTS);
        Ok(endpoints)
    }

    /// Returns the name of the port to dial. While there is no slice with a port, any name is as good.
    fn port_name<'a>(&'a self, selection: &'a Selection) -> Result<&'a str, PortError> {
        let mut names: Vec<&str> =
            self.slices.values().flat_map(Slice::tcp_ports).map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        let there = || {
            let quoted: Vec<_> = names.iter().take(8).map(|name| format!("`{name}`")).collect();
            quoted.join(", ")
        };
        let has_endpoints = self.slices.values().any(|slice| !slice.endpoints.is_empty());
        match (&selection.port, &*names) {
            (Some(name), _) if names.contains(&&**name) => Ok(name),
            (_, _) if !has_endpoints => Ok(""),
            (_, []) => Err(PortError::Missing),
            (Some(name), _) => Err(PortError::Unknown { name: name.clone(), there: there() }),
            (None, [only]) => Ok(only),
            (None, _) => Err(PortError::Ambiguous { there: there() }),
        }
    }
}

impl Slice {
    /// Returns the names and numbers of the ports that can be dialed.
    fn tcp_ports(&self) -> impl Iterator<Item = (&str, u16)> {
        let tcp = self.ports.iter().filter(|port| port.protocol.as_deref().is_none_or(|name| name == "TCP"));
        tcp.filter_map(|port| Some((&*port.name, port.port.filter(|port| *port != 0)?)))
    }
}

/// Returns the endpoint at its first address, unless it can get no call.
fn read(slice: &Slice, endpoint: &SliceEndpoint, port: u16, scheme: Scheme) -> Option<Found> {
    let state = state(&endpoint.conditions)?;
    let text = endpoint.addresses.first()?;
    let (address, is_ipv4) = if slice.address_type == "FQDN" {
        (Address::parse(&format!("{scheme}@{text}:{port}")).ok()?, false)
    } else {
        let Ok(ip) = text.parse::<IpAddr>() else {
            debug!(slice = slice.metadata.name, "an endpoint has no IP address; it is left out");
            return None;
        };
        if ip.is_unspecified() {
            return None;
        }
        (Address::tcp(SocketAddr::new(ip, port)).with_scheme(scheme), ip.is_ipv4())
    };
    let mut described = Endpoint::new(address).with_state(state);
    described.zone = endpoint.zone.clone().filter(|zone| !zone.is_empty());
    let pod = endpoint.target_ref.as_ref();
    if let Some(pod) = pod.filter(|pod| pod.kind == "Pod") {
        described.metadata.insert("pod".to_owned(), pod.name.clone());
    }
    if let Some(node) = &endpoint.node_name {
        described.metadata.insert("node".to_owned(), node.clone());
    }
    Some(Found {
        endpoint: described,
        is_ipv4,
        for_zones: endpoint.hints.for_zones.iter().map(|zone| zone.name.clone()).collect(),
        pod: pod.map(|pod| pod.uid.clone()).unwrap_or_default(),
    })
}

/// Returns the state of an endpoint; `None` if it should get no call.
fn state(conditions: &Conditions) -> Option<AdvertisedState> {
    // A condition that is not known counts as ready, as the API says.
    let ready = conditions.ready.unwrap_or(true);
    let terminating = conditions.terminating.unwrap_or(false);
    match (ready, terminating) {
        (true, false) => Some(AdvertisedState::Up),
        (_, true) if conditions.serving.unwrap_or(ready) => Some(AdvertisedState::Draining),
        _ => None,
    }
}

/// Keeps one address of each pod, the IPv4 one: in dual-stack clusters a pod is in slices of both families.
fn keep_one_of_each_pod(found: &mut Vec<Found>) {
    let with_ipv4: HashSet<String> = found
        .iter()
        .filter(|found| found.is_ipv4 && !found.pod.is_empty())
        .map(|found| found.pod.clone())
        .collect();
    found.retain(|found| found.is_ipv4 || !with_ipv4.contains(&found.pod));
}

/// Makes the endpoints that are meant for other zones those of last resort. Hints count if every endpoint that is ready
/// has them, and one is for this zone.
fn apply_hints(found: &mut [Found], zone: Option<&str>) {
    let Some(zone) = zone else { return };
    let is_meant = |found: &Found| found.for_zones.iter().any(|name| name == zone);
    let is_up = |found: &&Found| found.endpoint.state == AdvertisedState::Up;
    let all_have_hints = found.iter().filter(is_up).all(|found| !found.for_zones.is_empty());
    if !all_have_hints || !found.iter().filter(is_up).any(is_meant) {
        return;
    }
    for found in found.iter_mut().filter(|found| found.endpoint.state == AdvertisedState::Up) {
        if !is_meant(found) {
            found.endpoint.state = AdvertisedState::Stale;
        }
    }
}

#[cfg(test)]
mod tests;
