//! [`SharedStore`]: the store behind its lock. Each change wakes the watchers of what has changed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::store::{Now, Store};
use super::watchers::{Subscription, Watchers};

/// The store behind its lock, and the watchers that are woken by changes.
#[derive(Debug)]
pub(super) struct SharedStore {
    // A std mutex, because it is held for computation only, never across an await.
    store: Mutex<Store>,
    /// The store's revision, twice, and 1 while it is warming: every answer has both, and must not wait for the lock.
    stamp: AtomicU64,
    watchers: Watchers,
}

/// Distinguishes one content of the store, as far as it is saved, from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoreVersion {
    pub(super) rev: u64,
    pub(super) registrations: u64,
    pub(super) warming: bool,
}

impl SharedStore {
    pub(super) fn new(store: Store) -> Self {
        let stamp = AtomicU64::new(stamp(&store));
        Self { store: Mutex::new(store), stamp, watchers: Watchers::default() }
    }

    /// Locks the store. Changes that watchers must learn of go through [`update`](Self::update).
    pub(super) fn lock(&self) -> MutexGuard<'_, Store> {
        // A panic can only have happened between two changes of a record, and expiry repairs the rest.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the store, and wakes the watchers of the services that have changed.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Store, Now) -> T) -> T {
        let now = Now::read();
        let (outcome, changed) = {
            let mut store = self.lock();
            let before = store.rev();
            let outcome = change(&mut store, now);
            self.stamp.store(stamp(&store), Ordering::Release);
            (outcome, (store.rev() != before).then(|| store.changed_since(before)))
        };
        match changed {
            None => {}
            Some(Some(services)) => self.watchers.wake(&services),
            // More changes than the history keeps.
            Some(None) => self.watchers.wake_all(),
        }
        outcome
    }

    /// Returns the newest revision, and `true` if the store is warming, without the lock.
    pub(super) fn rev_and_warming(&self) -> (u64, bool) {
        let stamp = self.stamp.load(Ordering::Acquire);
        (stamp / 2, stamp % 2 == 1)
    }

    /// Returns the version of the current content.
    pub(super) fn version(&self) -> StoreVersion {
        let store = self.lock();
        StoreVersion {
            rev: store.rev(),
            registrations: store.registrations_rev(),
            warming: store.is_warming(),
        }
    }

    /// Subscribes to changes after this call, of one service or of all.
    pub(super) fn subscribe(&self, service: Option<&str>) -> Subscription {
        self.watchers.subscribe(service)
    }

    /// Wakes all watchers, for a change that belongs to no service.
    pub(super) fn wake_all(&self) {
        self.watchers.wake_all();
    }
}

fn stamp(store: &Store) -> u64 {
    store.rev() * 2 + u64::from(store.is_warming())
}
