//! [`StaticList`], endpoints that are given, and changed by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use farcall_transport::{Address, AddressError};
use tokio::sync::watch;

use crate::discovery::{Discovery, Publisher};
use crate::endpoint::Endpoint;
use crate::source::publish_of;

/// Endpoints that are given, and that can be changed while channels call them.
///
/// A clone is cheap and is the same list: give one to each channel that is to discover from it,
/// and keep one to change it. A change reaches every channel at once. An address is in the list
/// once. The caller bounds the length of the list.
///
/// ```
/// use farcall_discovery::{Endpoint, StaticList};
/// use farcall_transport::Address;
///
/// let list = StaticList::new(["tcp@10.0.0.1:7001", "tcp@10.0.0.2:7001"])?;
/// let channels_own = list.clone(); // what a channel is built with
///
/// let third = Address::parse("tcp@10.0.0.3:7001")?;
/// list.add(Endpoint::new(third.clone()).with_weight(50).with_zone("east"));
/// assert_eq!(channels_own.endpoints().len(), 3);
///
/// assert!(list.remove(&third));
/// assert_eq!(channels_own.endpoints().len(), 2);
/// # Ok::<(), farcall_transport::AddressError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StaticList {
    list: Arc<watch::Sender<List>>,
}

type List = BTreeMap<Address, Endpoint>;

impl StaticList {
    /// A list of these addresses, all of the same weight. It may be empty, and filled later.
    ///
    /// # Errors
    ///
    /// The first address that does not parse.
    pub fn new<A>(addresses: impl IntoIterator<Item = A>) -> Result<Self, AddressError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let addresses: Result<Vec<Address>, _> = addresses.into_iter().map(TryInto::try_into).collect();
        Ok(Self::of(addresses?))
    }

    /// A list of these endpoints (or addresses that are parsed). Of several with the same address
    /// the first counts.
    #[must_use]
    pub fn of<E: Into<Endpoint>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { list: Arc::new(watch::Sender::new(collect(endpoints))) }
    }

    /// Puts these endpoints in place of all that were there. Of several with the same address the
    /// first counts; an empty list means that there is no endpoint.
    pub fn set<E: Into<Endpoint>>(&self, endpoints: impl IntoIterator<Item = E>) {
        self.list.send_replace(collect(endpoints));
    }

    /// Adds an endpoint, in place of the one with the same address, if there is one.
    pub fn add(&self, endpoint: impl Into<Endpoint>) {
        let endpoint = endpoint.into();
        self.list.send_modify(|list| {
            list.insert(endpoint.address.clone(), endpoint);
        });
    }

    /// Removes an endpoint. Returns `true` if it was there.
    pub fn remove(&self, address: &Address) -> bool {
        self.list.send_if_modified(|list| list.remove(address).is_some())
    }

    /// Returns the endpoints of the list, in the order of addresses.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.list.borrow().values().cloned().collect()
    }
}

impl Discovery for StaticList {
    fn describe(&self) -> String {
        match self.list.borrow().len() {
            1 => "a given list of 1 endpoint".to_owned(),
            len => format!("a given list of {len} endpoints"),
        }
    }

    async fn run(self, publisher: Publisher) {
        let mut list = self.list.subscribe();
        // Without this reference to the list, the task ends when no other can change it.
        drop(self);
        loop {
            let count = list.borrow_and_update().len();
            list =
                publish_of(&publisher, count, list, |list| list.borrow().values().cloned().collect()).await;
            if list.changed().await.is_err() {
                return;
            }
        }
    }

    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

fn collect<E: Into<Endpoint>>(endpoints: impl IntoIterator<Item = E>) -> List {
    let mut list = List::new();
    for endpoint in endpoints {
        let endpoint = endpoint.into();
        list.entry(endpoint.address.clone()).or_insert(endpoint);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{EndpointList, Subscription, publisher};

    fn address(last: u8) -> Address {
        Address::parse(&format!("tcp@10.0.0.{last}:7001")).unwrap()
    }

    fn run(list: &StaticList) -> Subscription {
        let (publisher, subscription) = publisher();
        tokio::spawn(list.clone().run(publisher));
        subscription
    }

    /// The last part of each address, once the list is as it should be.
    async fn until(subscription: &mut Subscription, wanted: &[u8]) -> EndpointList {
        let wanted: Vec<_> = wanted.iter().map(|last| address(*last)).collect();
        let right = |found: &EndpointList| {
            found.confirmed.is_some() && found.endpoints.iter().map(|e| &e.address).eq(&wanted)
        };
        subscription.wait_for(right).await.unwrap().clone()
    }

    #[tokio::test]
    async fn every_channel_sees_each_change() {
        let list = StaticList::new(["10.0.0.2:7001", "tcp@10.0.0.1:7001"]).unwrap();
        let (mut one, mut other) = (run(&list), run(&list));
        for subscription in [&mut one, &mut other] {
            until(subscription, &[1, 2]).await;
        }
        list.add(address(3));
        assert!(list.remove(&address(1)));
        assert!(!list.remove(&address(1)), "it is gone already");
        for subscription in [&mut one, &mut other] {
            until(subscription, &[2, 3]).await;
        }
        list.set([address(9)]);
        for subscription in [&mut one, &mut other] {
            until(subscription, &[9]).await;
        }
        list.set::<Endpoint>([]);
        for subscription in [&mut one, &mut other] {
            until(subscription, &[]).await;
        }
    }

    #[tokio::test]
    async fn clone_for_another_runtime_sees_later_changes() {
        let list = StaticList::new(["10.0.0.1:7001"]).unwrap();
        let clone = list.try_clone().expect("a channel begins again with it");
        list.add(address(2));
        let (publisher, mut subscription) = publisher();
        tokio::spawn(clone.run(publisher));
        until(&mut subscription, &[1, 2]).await;
        list.add(address(3));
        until(&mut subscription, &[1, 2, 3]).await;
    }

    #[tokio::test]
    async fn endpoint_replaces_the_one_at_its_address() {
        let list = StaticList::of([Endpoint::new(address(1)).with_weight(10), address(1).into()]);
        assert_eq!(list.endpoints(), [Endpoint::new(address(1)).with_weight(10)], "the first counts");
        let mut subscription = run(&list);
        until(&mut subscription, &[1]).await;

        list.add(Endpoint::new(address(1)).with_weight(0).with_zone("east"));
        let drained = |found: &EndpointList| found.endpoints.iter().all(|endpoint| endpoint.is_drained());
        let found = subscription.wait_for(drained).await.unwrap().clone();
        assert_eq!(found.endpoints.len(), 1);
        assert_eq!(found.endpoints[0].zone.as_deref(), Some("east"));
    }

    #[tokio::test]
    async fn last_list_stays_after_its_handles_are_dropped() {
        let list = StaticList::new(["10.0.0.1:7001"]).unwrap();
        let (publisher, mut subscription) = publisher();
        let running = tokio::spawn(list.clone().run(publisher));
        until(&mut subscription, &[1]).await;
        drop(list);
        running.await.unwrap();
        assert_eq!(subscription.borrow().endpoints.len(), 1);
    }

    #[test]
    fn malformed_address_is_refused_and_quoted() {
        let error = StaticList::new(["10.0.0.1:7001", "nowhere"]).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }

    #[test]
    fn description_has_the_length_of_the_list() {
        let list = StaticList::new(["10.0.0.1:7001"]).unwrap();
        assert_eq!(list.describe(), "a given list of 1 endpoint");
        list.set::<Endpoint>([]);
        assert_eq!(list.describe(), "a given list of 0 endpoints");
    }
}
