//! [`Watchers`]: wakes the tasks that wait for changes, of one service or of all.
//!
//! What has changed is left to the store: nothing is queued for a watcher, so a slow one costs no memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use tokio::sync::Notify;

/// The tasks that wait for changes. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Watchers {
    watched: Arc<Mutex<Watched>>,
}

/// The subscriptions by number, so that they are woken in the order in which they were made. The limit of watchers bounds
/// them.
type Subscriptions = BTreeMap<u64, Arc<Notify>>;

#[derive(Debug, Default)]
struct Watched {
    all: Subscriptions,
    /// Only services that are watched.
    services: HashMap<Arc<str>, Subscriptions>,
    last: u64,
}

/// A task's subscription to changes.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Keeps one wake-up until it is waited for.
    changed: Arc<Notify>,
    watchers: Watchers,
    /// `None` for all services.
    service: Option<Arc<str>>,
    number: u64,
}

impl Watchers {
    /// Subscribes to changes after this call, of one service or of all.
    pub(super) fn subscribe(&self, service: Option<&str>) -> Subscription {
        let (service, changed) = (service.map(Arc::<str>::from), Arc::<Notify>::default());
        let mut watched = self.lock();
        watched.last += 1;
        let number = watched.last;
        let subscriptions = match &service {
            None => &mut watched.all,
            Some(service) => watched.services.entry(Arc::clone(service)).or_default(),
        };
        subscriptions.insert(number, Arc::clone(&changed));
        Subscription { changed, watchers: self.clone(), service, number }
    }

    /// Wakes the watchers of these services, and of all services.
    pub(super) fn wake(&self, services: &BTreeSet<Arc<str>>) {
        let watched = self.lock();
        wake(&watched.all);
        services.iter().filter_map(|service| watched.services.get(service)).for_each(wake);
    }

    /// Wakes all watchers.
    pub(super) fn wake_all(&self) {
        let watched = self.lock();
        let mut services: Vec<_> = watched.services.iter().collect();
        services.sort_unstable_by_key(|(service, _)| *service);
        wake(&watched.all);
        services.into_iter().for_each(|(_, subscriptions)| wake(subscriptions));
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(subscriptions: &Subscriptions) {
    subscriptions.values().for_each(|changed| changed.notify_one());
}

impl Subscription {
    /// Waits for a change since the last time this was ready. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        self.changed.notified().await;
    }

    /// Ignores changes until now, because the caller is about to read the store.
    pub(super) fn mark_seen(&mut self) {
        let _ = self.changed.notified().now_or_never();
    }
}

/// Removes a service with its last watcher; otherwise every service that was ever watched would stay.
impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watched = self.watchers.lock();
        let Some(service) = self.service.take() else {
            watched.all.remove(&self.number);
            return;
        };
        if let Some(subscriptions) = watched.services.get_mut(&service) {
            subscriptions.remove(&self.number);
            if subscriptions.is_empty() {
                watched.services.remove(&service);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn watcher_of_a_service_is_woken_by_that_service_only() {
        let watchers = Watchers::default();
        let (mut all, mut arith) = (watchers.subscribe(None), watchers.subscribe(Some("Arith")));
        watchers.wake(&BTreeSet::from(["Text".into()]));
        assert!(all.changed().now_or_never().is_some());
        assert!(arith.changed().now_or_never().is_none());
        watchers.wake(&BTreeSet::from(["Arith".into()]));
        assert!(arith.changed().now_or_never().is_some());
        assert!(arith.changed().now_or_never().is_none());
    }

    #[test]
    fn service_is_removed_with_its_last_watcher() {
        let watchers = Watchers::default();
        let two = (watchers.subscribe(Some("Arith")), watchers.subscribe(Some("Arith")));
        drop(two.0);
        assert_eq!(watchers.lock().services.len(), 1);
        drop(two.1);
        assert_eq!(watchers.lock().services.len(), 0);
    }
}
