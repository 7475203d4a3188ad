//! The differences between the instances of a service: of their versions, and of their methods and types.

use std::collections::BTreeMap;

use farcall::Address;
use farcall::protocol::describe::ServiceInfo;
use farcall_schema::{Change, Document, compare};

use super::report::Report;
use crate::methods::signature;
use crate::output::escape::word;

/// The most differences that are shown; more are counted.
const MAX_DIFFERENCES: usize = 10;
/// The thing to do about different methods and types.
const CURE: &str = "deploy the same version everywhere, or check that callers work with each";

/// An instance to examine.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) address: Address,
    /// As the registry has it.
    pub(super) version: Option<String>,
}

/// The methods of an instance, as it describes them.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) address: Address,
    pub(super) services: Vec<ServiceInfo>,
    /// `None` if it does not tell its types.
    pub(super) types: Option<Document>,
}

/// Instances that describe the same, and the methods that they have.
struct Group<'a> {
    first: &'a Description,
    addresses: Vec<String>,
}

/// Reports the versions of instances, as the registry has them.
pub(super) fn versions(instances: &[Instance], report: &mut Report) {
    let mut by_version: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Instance { address, version } in instances {
        if let Some(version) = version {
            by_version.entry(version).or_default().push(address.to_string());
        }
    }
    let mut versions = by_version.iter();
    match (versions.next(), versions.next()) {
        (None, _) => {}
        (Some((version, _)), None) => report.ok("version", format!("all are {}", word(version))),
        _ => {
            let found: Vec<_> = by_version
                .iter()
                .map(|(version, addresses)| format!("{}: {}", word(version), addresses.join(", ")))
                .collect();
            report.note("version", found.join("; "), "finish the deployment, if none is under way");
        }
    }
}

/// Reports whether all describe the same methods with the same types, and what differs.
pub(super) fn types(descriptions: &[Description], report: &mut Report) {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for one in descriptions {
        let address = one.address.to_string();
        match groups.iter_mut().find(|group| differences(group.first, one).is_empty()) {
            Some(group) => group.addresses.push(address),
            None => groups.push(Group { first: one, addresses: vec![address] }),
        }
    }
    // The others are compared with what most of them are.
    groups.sort_by_key(|group| std::cmp::Reverse(group.addresses.len()));
    let Some((most, others)) = groups.split_first() else { return };
    if others.is_empty() {
        return report.ok("schema", "all describe the same methods and types");
    }
    for group in others {
        let mut found = differences(most.first, group.first);
        let more = found.len().saturating_sub(MAX_DIFFERENCES);
        found.truncate(MAX_DIFFERENCES);
        if more > 0 {
            found.push(format!("and {more} more"));
        }
        let (these, those) = (group.addresses.join(", "), most.addresses.join(", "));
        report.bad("schema", format!("{these} against {those}: {}", found.join("; ")), CURE);
    }
}

/// Returns what differs in `other`: by the types if both tell them, and else by the signatures of the methods.
fn differences(one: &Description, other: &Description) -> Vec<String> {
    if let (Some(one), Some(other)) = (&one.types, &other.types) {
        return compare(one, other).iter().map(difference).collect();
    }
    let (one, other) = (signatures(&one.services), signatures(&other.services));
    let missing = one.iter().filter(|method| !other.contains(method)).map(|method| format!("no {method}"));
    missing.chain(other.iter().filter(|method| !one.contains(method)).cloned()).collect()
}

/// Returns a change in one line, with its verdict.
fn difference(change: &Change) -> String {
    let verdict = change.verdict();
    let place = if change.place.is_empty() { String::new() } else { format!(" {}", word(&change.place)) };
    format!("{}{place}: {} ({verdict})", word(&change.method), word(&change.what))
}

fn signatures(services: &[ServiceInfo]) -> Vec<String> {
    let methods = services.iter().flat_map(|service| {
        let methods = service.methods.iter();
        methods.map(|method| word(&format!("{}.{}{}", service.name, method.name, signature(method))))
    });
    methods.collect()
}
