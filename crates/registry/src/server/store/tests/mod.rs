//! Tests of the store, and the fixtures that they share.

mod expiry;
mod history;
mod lists;
mod model;
mod namesakes;
mod paged;
mod registration;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use farcall_discovery::AdvertisedState;
use farcall_transport::Address;

use super::*;
use crate::wire::{Envelope, Instances, Put};

const TTL: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(3);
const DEFAULTS: LeaseDefaults = LeaseDefaults { ttl: TTL, heartbeat: HEARTBEAT };

/// A clock that tests advance.
struct Clock(Now);

impl Clock {
    fn new() -> Self {
        Self(Now::read())
    }

    fn after(&mut self, time: Duration) -> Now {
        self.0.at += time;
        self.0
    }
}

fn store() -> (Store, Clock) {
    (Store::new("e".to_owned(), DEFAULTS, 1000), Clock::new())
}

fn instance(service: &str, n: u16) -> Instance {
    Instance::new(service, Address::parse(&format!("10.0.0.1:{}", 1000 + n)).unwrap())
}

/// The claim of a request without a token.
fn claim() -> Claim {
    Claim::Issued(RegistrationToken::random())
}

fn id(n: u16) -> String {
    instance("A", n).id
}

fn register_all(store: &mut Store, count: u16, now: Now) {
    for n in 0..count {
        store.register(instance("A", n), claim(), now).unwrap();
    }
}

/// The whole body of a list.
fn body(store: &Store, service: &str, filter: &ListFilter) -> Bytes {
    let mut selection = store.list(service, filter);
    while !selection.step() {}
    let document = selection.document();
    let size = document.size();
    let bytes = document.bytes();
    assert_eq!(size, Some(bytes.len()));
    bytes
}

fn list(store: &mut Store, filter: &ListFilter) -> Vec<InstanceRecord> {
    let body = body(store, "A", filter);
    serde_json::from_slice::<Envelope<Instances>>(&body).unwrap().body.instances
}

/// All instances of a service, in any state.
fn instances(store: &Store, service: &str) -> Vec<InstanceRecord> {
    let body = body(store, service, &ListFilter { stale: true, ..ListFilter::default() });
    serde_json::from_slice::<Envelope<Instances>>(&body).unwrap().body.instances
}

fn addresses(store: &Store, service: &str) -> Addresses {
    Addresses::new(store.addresses(service))
}

fn states(store: &mut Store) -> Vec<AdvertisedState> {
    instances(store, "A").into_iter().map(|record| record.state).collect()
}
