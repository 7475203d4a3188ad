//! [`ServiceView`]: a client's view of a service's instances, merged from lists and changes.
//!
//! No I/O and no clock.

use std::collections::BTreeMap;

use farcall_discovery::{AdvertisedState, Endpoint};

use super::decode::{Change, InstanceList, MAX_INSTANCES, Position};

/// The instances of one service.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceView {
    /// The registry's epoch, if it was received.
    epoch: Option<String>,
    /// The revision in that epoch; `None` until the next list.
    rev: Option<u64>,
    /// `true` if the registry was warming when it sent the list.
    incomplete: bool,
    /// The instances that the registry has.
    current: BTreeMap<String, Endpoint>,
    /// The instances that only an earlier epoch had, while the registry is warming.
    held: BTreeMap<String, Endpoint>,
}

impl ServiceView {
    /// Returns the epoch and the revision; `None` before a list of the full interface.
    pub(super) fn position(&self) -> Option<(&str, u64)> {
        Some((self.epoch.as_deref()?, self.rev?))
    }

    /// Returns `true` until a complete list arrives.
    pub(super) fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Keeps the instances, but not the revision.
    pub(super) fn lose_position(&mut self) {
        self.rev = None;
    }

    /// Replaces the view by a list. A registry that is warming may miss instances: those of an earlier epoch are held, until
    /// the registry has warmed or reports their removal.
    pub(super) fn adopt(&mut self, list: InstanceList) {
        let same_epoch = list.epoch.is_some() && list.epoch == self.epoch;
        if !list.warming {
            self.held.clear();
        } else if !same_epoch {
            self.held.append(&mut self.current);
        }
        self.held.retain(|id, _| !list.endpoints.contains_key(id));
        self.epoch = list.epoch;
        self.rev = list.rev;
        self.incomplete = list.warming;
        self.current = list.endpoints;
    }

    /// Applies a change; ignores one that is older than the view. After an error, which is a message, a list is needed.
    pub(super) fn apply(&mut self, at: &Position, change: Change) -> Result<(), String> {
        let Some((epoch, rev)) = self.position() else {
            return Err("a change came before any list".to_owned());
        };
        if epoch != at.epoch {
            return Err("a change of another epoch came without a list".to_owned());
        }
        // A revision may have several changes.
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

    /// Returns the number of instances.
    pub(super) fn count(&self) -> usize {
        self.current.len() + self.held.len()
    }

    /// Returns all instances; of several with one address, the one in the best state comes first.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        let mut endpoints: Vec<_> = self.current.values().chain(self.held.values()).cloned().collect();
        endpoints.sort_by_key(|endpoint| match endpoint.state {
            AdvertisedState::Up => 0,
            AdvertisedState::Draining => 1,
            AdvertisedState::Stale => 2,
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

    fn list(epoch: &str, rev: u64, ports: &[u16]) -> InstanceList {
        InstanceList {
            epoch: Some(epoch.to_owned()),
            rev: Some(rev),
            warming: false,
            endpoints: ports.iter().map(|&port| (port.to_string(), endpoint(port))).collect(),
        }
    }

    fn at(epoch: &str, rev: u64) -> Position {
        Position { epoch: epoch.to_owned(), rev }
    }

    fn ports(view: &ServiceView) -> Vec<u16> {
        view.endpoints().iter().filter_map(|endpoint| endpoint.address.port()).collect()
    }

    fn put(port: u16) -> Change {
        Change::Put { id: port.to_string(), endpoint: endpoint(port) }
    }

    #[test]
    fn newer_changes_apply_and_older_ones_are_ignored() {
        let mut view = ServiceView::default();
        view.adopt(list("e", 5, &[1, 2]));
        view.apply(&at("e", 4), Change::Delete { id: "1".to_owned() }).unwrap();
        view.apply(&at("e", 6), put(3)).unwrap();
        view.apply(&at("e", 6), Change::Delete { id: "2".to_owned() }).unwrap();
        assert_eq!(ports(&view), [1, 3]);
    }

    #[test]
    fn change_of_another_epoch_needs_a_list() {
        let mut view = ServiceView::default();
        assert!(view.apply(&at("e", 1), put(1)).is_err());
        view.adopt(list("e", 5, &[1]));
        assert!(view.apply(&at("f", 6), put(2)).is_err());
        assert_eq!(ports(&view), [1]);
    }

    #[test]
    fn warming_registry_adds_instances_and_removes_none() {
        let mut view = ServiceView::default();
        view.adopt(list("e", 5, &[1, 2]));
        view.adopt(InstanceList { warming: true, ..list("f", 1, &[3]) });
        assert_eq!(ports(&view), [3, 1, 2]);
        assert!(view.is_incomplete());
        // Except by an explicit removal.
        view.apply(&at("f", 2), Change::Delete { id: "1".to_owned() }).unwrap();
        assert_eq!(ports(&view), [3, 2]);
        view.adopt(list("f", 2, &[3]));
        assert_eq!(ports(&view), [3]);
        assert!(!view.is_incomplete());
    }

    #[test]
    fn instance_that_left_a_warming_registry_is_removed() {
        let mut view = ServiceView::default();
        view.adopt(list("e", 5, &[1]));
        view.adopt(InstanceList { warming: true, ..list("f", 2, &[2, 3]) });
        view.adopt(InstanceList { warming: true, ..list("f", 3, &[3]) });
        assert_eq!(ports(&view), [3, 1]);
        // Another restart before it has warmed.
        view.adopt(InstanceList { warming: true, ..list("g", 1, &[4]) });
        assert_eq!(ports(&view), [4, 1, 3]);
    }

    #[test]
    fn first_list_of_a_warming_registry_is_used() {
        let mut view = ServiceView::default();
        view.adopt(InstanceList { warming: true, ..list("f", 1, &[3]) });
        assert_eq!(ports(&view), [3]);
    }

    #[test]
    fn instance_that_is_up_precedes_others_with_its_address() {
        let mut view = ServiceView::default();
        let mut two = list("e", 1, &[7]);
        two.endpoints.insert("0".to_owned(), endpoint(7).with_state(AdvertisedState::Stale));
        view.adopt(two);
        assert_eq!(view.endpoints()[0].state, AdvertisedState::Up);
    }
}
