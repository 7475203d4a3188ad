//! The items of the store's lists: [`ListedInstance`], [`ListedService`] and [`ListedAddress`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use farcall_discovery::AdvertisedState;

use super::page::Item;
use super::paged::Pages;
use crate::wire::{InstanceRecord, ServiceSummary, Timestamp};

/// An instance at one of its revisions. Only `last_seen` changes.
#[derive(Debug)]
pub(in crate::server) struct ListedInstance {
    public: Arc<InstanceRecord>,
    /// `public` as JSON.
    json: Bytes,
    /// The time of the last heartbeat, in milliseconds since 1970.
    last_seen: AtomicU64,
}

impl ListedInstance {
    pub(super) fn new(public: Arc<InstanceRecord>, json: Bytes, last_seen: Timestamp) -> Self {
        Self { public, json, last_seen: AtomicU64::new(last_seen.millis()) }
    }

    /// The instance, without `last_seen`.
    pub(super) fn public(&self) -> &InstanceRecord {
        &self.public
    }

    pub(super) fn set_last_seen(&self, time: Timestamp) {
        // Read for display only, so no other memory depends on it.
        self.last_seen.store(time.millis(), Ordering::Relaxed);
    }

    /// Returns the instance with `last_seen`.
    pub(in crate::server) fn with_last_seen(&self) -> InstanceRecord {
        InstanceRecord { last_seen: Some(self.last_seen()), ..(*self.public).clone() }
    }

    pub(in crate::server) fn last_seen(&self) -> Timestamp {
        Timestamp::from_millis(self.last_seen.load(Ordering::Relaxed))
    }

    pub(super) fn state(&self) -> AdvertisedState {
        self.public.state
    }

    /// Returns `true` if clients may send calls to it, stale or not.
    pub(super) fn accepts_calls(&self) -> bool {
        self.public.state != AdvertisedState::Draining && self.public.instance.weight > 0
    }

    /// Returns `true` if stale instances need not be listed because of this one.
    pub(super) fn is_serving(&self) -> bool {
        self.public.state == AdvertisedState::Up && self.accepts_calls()
    }
}

impl Item for ListedInstance {
    fn key(&self) -> &str {
        &self.public.instance.id
    }

    fn json(&self) -> &[u8] {
        &self.json
    }
}

/// A service with instances, at one of its revisions.
#[derive(Debug)]
pub(in crate::server) struct ListedService {
    name: Arc<str>,
    json: Box<[u8]>,
    /// The service's instances.
    pub(super) pages: Pages<ListedInstance>,
}

impl ListedService {
    pub(super) fn new(name: Arc<str>, summary: &ServiceSummary, pages: Pages<ListedInstance>) -> Self {
        let json = serde_json::to_vec(summary).expect("all keys are strings").into();
        Self { name, json, pages }
    }

    /// Creates an entry that holds no pages, to be replaced before it is read.
    pub(super) fn outdated(name: Arc<str>) -> Self {
        Self { name, json: Box::default(), pages: Pages::default() }
    }
}

impl Item for ListedService {
    fn key(&self) -> &str {
        &self.name
    }

    fn json(&self) -> &[u8] {
        &self.json
    }
}

/// An address in the list of the simple interface.
#[derive(Debug)]
pub(in crate::server) struct ListedAddress {
    pub(super) address: Box<str>,
    json: Box<[u8]>,
    /// The number of instances that have it.
    pub(super) instances: usize,
}

impl ListedAddress {
    pub(super) fn new(address: &str, instances: usize) -> Self {
        let json = serde_json::to_vec(address).expect("a string is valid JSON").into();
        Self { address: address.into(), json, instances }
    }
}

impl Item for ListedAddress {
    fn key(&self) -> &str {
        &self.address
    }

    fn json(&self) -> &[u8] {
        &self.json
    }
}
