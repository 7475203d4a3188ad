//! [`Known`]: what a client knows of a service's instances, put together from lists and changes.
//!
//! No I/O, no clock.

use std::collections::BTreeMap;

use farcall_discovery::{Endpoint, State};

use super::lists::{Change, List, MAX_INSTANCES, Position};

/// The instances of one service.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Which run of the registry told what is current, where that is known.
    epoch: Option<String>,
    /// What moment of that run it is; none where a list is needed to know it.
    rev: Option<u64>,
    /// The registry was warming when it gave the list.
    incomplete: bool,
    /// What the registry has.
    current: BTreeMap<String, Endpoint>,
    /// What only an earlier run had, while the registry is warming.
    held: BTreeMap<String, Endpoint>,
}

impl Known {
    /// The epoch and the revision of what is known; none before a list of the full interface.
    pub(super) fn position(&self) -> Option<(&str, u64)> {
        Some((self.epoch.as_deref()?, self.rev?))
    }

    /// Whether a complete list is still to come.
    pub(super) fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Keeps the instances, but not what moment of the registry they are of.
    pub(super) fn lose_place(&mut self) {
        self.rev = None;
    }

    /// Takes a list for what is known. A registry that is warming does not know yet who is missing:
    /// what an earlier run had is held, and goes when the registry has warmed or says that it is gone.
    pub(super) fn adopt(&mut self, list: List) {
        let same_run = list.epoch.is_some() && list.epoch == self.epoch;
        if !list.warming {
            self.held.clear();
        } else if !same_run {
            self.held.append(&mut self.current);
        }
        self.held.retain(|id, _| !list.endpoints.contains_key(id));
        self.epoch = list.epoch;
        self.rev = list.rev;
        self.incomplete = list.warming;
        self.current = list.endpoints;
    }

    /// Takes a change. What is older than what is known says nothing new; an error is a sentence, and
    /// then a list is needed.
    pub(super) fn apply(&mut self, at: &Position, change: Change) -> Result<(), String> {
        let Some((epoch, rev)) = self.position() else {
            return Err("a change came before any list".to_owned());
        };
        if epoch != at.epoch {
            return Err("a change of another epoch came without a list".to_owned());
        }
        // The same revision may have several changes.
        if at.rev < rev {
            return Ok(());
        }
        self.rev = Some(at.rev);
        match change {
            Change::Put { id, endpoint } => {
                self.held.remove(&id);
                self.current.insert(id, endpoint);
            }
            Change::Delete { id } => {
                self.held.remove(&id);
                self.current.remove(&id);
            }
        }
        if self.current.len() > MAX_INSTANCES {
            return Err(format!("there are more than {MAX_INSTANCES} instances"));
        }
        Ok(())
    }

    /// All of them, of two at one address the one in the better state first.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        let mut endpoints: Vec<_> = self.current.values().chain(self.held.values()).cloned().collect();
        endpoints.sort_by_key(|endpoint| match endpoint.state {
            State::Up => 0,
            State::Draining => 1,
            State::Stale => 2,
        });
        endpoints
    }
}

#[cfg(test)]
mod tests {
    use farcall_transport::Address;

    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::new(Address::tcp(([10, 0, 0, 1], port).into()))
    }

    fn list(epoch: &str, rev: u64, ports: &[u16]) -> List {
        List {
            epoch: Some(epoch.to_owned()),
            rev: Some(rev),
            warming: false,
            endpoints: ports.iter().map(|&port| (port.to_string(), endpoint(port))).collect(),
        }
    }

    fn at(epoch: &str, rev: u64) -> Position {
        Position { epoch: epoch.to_owned(), rev }
    }

    fn ports(known: &Known) -> Vec<u16> {
        known.endpoints().iter().filter_map(|endpoint| endpoint.address.port()).collect()
    }

    fn put(port: u16) -> Change {
        Change::Put { id: port.to_string(), endpoint: endpoint(port) }
    }

    #[test]
    fn changes_come_on_top_of_the_list_and_old_ones_do_not() {
        let mut known = Known::default();
        known.adopt(list("e", 5, &[1, 2]));
        known.apply(&at("e", 4), Change::Delete { id: "1".to_owned() }).unwrap();
        known.apply(&at("e", 6), put(3)).unwrap();
        known.apply(&at("e", 6), Change::Delete { id: "2".to_owned() }).unwrap();
        assert_eq!(ports(&known), [1, 3]);
    }

    #[test]
    fn a_change_that_does_not_fit_the_list_needs_another_list() {
        let mut known = Known::default();
        assert!(known.apply(&at("e", 1), put(1)).is_err());
        known.adopt(list("e", 5, &[1]));
        assert!(known.apply(&at("f", 6), put(2)).is_err());
        assert_eq!(ports(&known), [1]);
    }

    #[test]
    fn a_warming_registry_adds_and_takes_nothing_away() {
        let mut known = Known::default();
        known.adopt(list("e", 5, &[1, 2]));
        known.adopt(List { warming: true, ..list("f", 1, &[3]) });
        assert_eq!(ports(&known), [3, 1, 2]);
        assert!(known.is_incomplete());
        // Who says that it goes, goes.
        known.apply(&at("f", 2), Change::Delete { id: "1".to_owned() }).unwrap();
        assert_eq!(ports(&known), [3, 2]);
        known.adopt(list("f", 2, &[3]));
        assert_eq!(ports(&known), [3]);
        assert!(!known.is_incomplete());
    }

    #[test]
    fn what_a_warming_registry_had_itself_and_has_no_more_is_gone() {
        let mut known = Known::default();
        known.adopt(list("e", 5, &[1]));
        known.adopt(List { warming: true, ..list("f", 2, &[2, 3]) });
        known.adopt(List { warming: true, ..list("f", 3, &[3]) });
        assert_eq!(ports(&known), [3, 1]);
        // Another restart before it has warmed.
        known.adopt(List { warming: true, ..list("g", 1, &[4]) });
        assert_eq!(ports(&known), [4, 1, 3]);
    }

    #[test]
    fn who_knows_nobody_takes_what_a_warming_registry_has() {
        let mut known = Known::default();
        known.adopt(List { warming: true, ..list("f", 1, &[3]) });
        assert_eq!(ports(&known), [3]);
    }

    #[test]
    fn of_two_at_one_address_the_one_that_is_up_is_first() {
        let mut known = Known::default();
        let mut two = list("e", 1, &[7]);
        two.endpoints.insert("0".to_owned(), endpoint(7).with_state(State::Stale));
        known.adopt(two);
        assert_eq!(known.endpoints()[0].state, State::Up);
    }
}
