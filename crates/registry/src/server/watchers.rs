//! [`Watchers`]: wakes the tasks that wait for changes, of one service or of all.
//!
//! What has changed is left to the store: nothing is queued for a watcher, so a slow one costs no memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The tasks that wait for changes. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Watchers {
    all: watch::Sender<()>,
    /// Only services that are watched: the limit of watchers bounds it.
    services: Arc<Mutex<HashMap<Arc<str>, watch::Sender<()>>>>,
}

/// A task's subscription to changes.
#[derive(Debug)]
pub(super) struct Subscription {
    receiver: watch::Receiver<()>,
    /// The entry that is removed with the last subscription of a service.
    entry: Option<(Watchers, Arc<str>)>,
}

impl Watchers {
    /// Subscribes to changes after this call, of one service or of all.
    pub(super) fn subscribe(&self, service: Option<&str>) -> Subscription {
        let Some(service) = service else {
            return Subscription { receiver: self.all.subscribe(), entry: None };
        };
        let service: Arc<str> = service.into();
        let receiver = self.services().entry(Arc::clone(&service)).or_default().subscribe();
        Subscription { receiver, entry: Some((self.clone(), service)) }
    }

    /// Wakes the watchers of these services, and of all services.
    pub(super) fn wake(&self, services: &BTreeSet<Arc<str>>) {
        self.all.send_replace(());
        let watched = self.services();
        for service in services {
            if let Some(sender) = watched.get(service) {
                sender.send_replace(());
            }
        }
    }

    /// Wakes all watchers.
    pub(super) fn wake_all(&self) {
        self.all.send_replace(());
        for sender in self.services().values() {
            sender.send_replace(());
        }
    }

    fn services(&self) -> MutexGuard<'_, HashMap<Arc<str>, watch::Sender<()>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// Waits for a change since the last time this was ready.
    pub(super) async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The registry was dropped; its closing ends this task.
            std::future::pending::<()>().await;
        }
    }

    /// Ignores changes until now, because the caller is about to read the store.
    pub(super) fn mark_seen(&mut self) {
        self.receiver.mark_unchanged();
    }
}

/// Removes a service with its last watcher; otherwise every service that was ever watched would stay.
impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some((watchers, service)) = self.entry.take() {
            let mut watched = watchers.services();
            // This subscription's receiver still counts.
            if watched.get(&service).is_some_and(|sender| sender.receiver_count() <= 1) {
                watched.remove(&service);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

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
        assert_eq!(watchers.services().len(), 1);
        drop(two.1);
        assert_eq!(watchers.services().len(), 0);
    }
}
