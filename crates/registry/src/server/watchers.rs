//! [`Watchers`]: wakes those who wait for changes, of one service or of all. What changed they ask
//! the store; so nothing is queued for anybody, and nobody who is slow costs memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// See the module. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Watchers {
    all: watch::Sender<()>,
    /// Only those that somebody waits for: the bound on watchers bounds it.
    services: Arc<Mutex<HashMap<Arc<str>, watch::Sender<()>>>>,
}

/// Somebody who waits for changes.
#[derive(Debug)]
pub(super) struct Subscription {
    receiver: watch::Receiver<()>,
    /// Where it is to be taken out again.
    place: Option<(Watchers, Arc<str>)>,
}

impl Watchers {
    /// Waits for changes after this call.
    pub(super) fn subscribe(&self, service: Option<&str>) -> Subscription {
        let Some(service) = service else {
            return Subscription { receiver: self.all.subscribe(), place: None };
        };
        let service: Arc<str> = service.into();
        let receiver = self.services().entry(Arc::clone(&service)).or_default().subscribe();
        Subscription { receiver, place: Some((self.clone(), service)) }
    }

    /// These services changed.
    pub(super) fn wake(&self, services: &BTreeSet<Arc<str>>) {
        self.all.send_replace(());
        let waiting = self.services();
        for service in services {
            if let Some(sender) = waiting.get(service) {
                sender.send_replace(());
            }
        }
    }

    /// What concerns everybody has changed.
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
    /// Ready when there was a change since the last time this was ready.
    pub(super) async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The registry is gone; whoever waits is ended by its closing.
            std::future::pending::<()>().await;
        }
    }

    /// What has changed until now is about to be looked up: [`changed`](Self::changed) need not tell of it.
    pub(super) fn catch_up(&mut self) {
        self.receiver.mark_unchanged();
    }
}

/// Takes the service out with its last watcher: else names that were watched once would stay.
impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some((watchers, service)) = self.place.take() {
            let mut waiting = watchers.services();
            // This one's receiver is still there.
            if waiting.get(&service).is_some_and(|sender| sender.receiver_count() <= 1) {
                waiting.remove(&service);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_service_is_woken_by_it_alone() {
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
    fn a_service_is_forgotten_with_its_last_watcher() {
        let watchers = Watchers::default();
        let two = (watchers.subscribe(Some("Arith")), watchers.subscribe(Some("Arith")));
        drop(two.0);
        assert_eq!(watchers.services().len(), 1);
        drop(two.1);
        assert_eq!(watchers.services().len(), 0);
    }
}
