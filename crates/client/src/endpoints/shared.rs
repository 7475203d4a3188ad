//! The state that a channel's calls and the task of its endpoints share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use farcall_discovery::{Balancer, KeySource, Subscription};
use tokio::sync::Notify;

use super::outlier_detection::OutlierDetection;
use super::snapshot::{Outlook, Snapshot};
use crate::connection::options::ConnectionOptions;
use crate::connection::pool::PoolSize;
use crate::totals::Totals;

/// The state that a channel's calls and the task of its endpoints share.
pub(super) struct Shared {
    /// The endpoints to choose among, replaced as a whole by the task.
    pub(super) snapshot: ArcSwap<Snapshot>,
    /// Notified when the snapshot was replaced.
    pub(super) replaced: Notify,
    /// The list of the source, once the task follows it. A list that is confirmed without a change makes no new
    /// snapshot, so its age is read from here.
    list: Mutex<Option<Subscription>>,
    /// `true` while a task follows the source.
    is_followed: AtomicBool,
    /// Notified by backends whose health has changed.
    pub(super) health_changed: Arc<Notify>,
    pub(super) balancer: Box<dyn Balancer>,
    pub(super) key_source: KeySource,
    pub(super) options: Arc<ConnectionOptions>,
    pub(super) connections: PoolSize,
    pub(super) outlier_detection: OutlierDetection,
    pub(super) totals: Arc<Totals>,
    /// The description of the source.
    pub(super) origin: String,
}

impl Shared {
    pub(super) fn new(
        origin: String,
        balancer: Box<dyn Balancer>,
        options: Arc<ConnectionOptions>,
        connections: PoolSize,
        outlier_detection: OutlierDetection,
    ) -> Self {
        Self {
            snapshot: ArcSwap::default(),
            replaced: Notify::new(),
            list: Mutex::default(),
            is_followed: AtomicBool::new(false),
            health_changed: Arc::default(),
            key_source: balancer.key(),
            balancer,
            options,
            connections,
            outlier_detection,
            totals: Arc::default(),
            origin,
        }
    }

    /// Replaces the snapshot, and returns the last one, which takes long to drop if it has many endpoints.
    pub(super) fn replace(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let last = self.snapshot.swap(Arc::new(snapshot));
        self.replaced.notify_waiters();
        last
    }

    /// Returns the time since the list was last known to be true.
    pub(super) fn age(&self) -> Option<Duration> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let confirmed = list.as_ref()?.borrow().confirmed;
        confirmed.map(|confirmed| confirmed.elapsed())
    }

    /// Sets the list of the source that the task follows from now on.
    pub(super) fn set_list(&self, list: Subscription) {
        *self.list.lock().unwrap_or_else(PoisonError::into_inner) = Some(list);
    }
}

/// The right to follow the source, which one task at a time has.
pub(super) struct Follower(Arc<Shared>);

impl Follower {
    /// Takes the right; `None` if a task has it.
    pub(super) fn claim(shared: &Arc<Shared>) -> Option<Self> {
        // Read first: most calls that come here find a task.
        let free =
            !shared.is_followed.load(Ordering::Acquire) && !shared.is_followed.swap(true, Ordering::AcqRel);
        free.then(|| Self(Arc::clone(shared)))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Follower {
    /// Gives the right back when the task ends: the channel is gone, or the runtime was shut down. Without a set of
    /// endpoints to pick from, the next call notices, and starts another task.
    fn drop(&mut self) {
        let Snapshot { list, entries, .. } = &*self.0.snapshot.load_full();
        let (list, entries) = (list.clone(), entries.clone());
        // In this order: the next task replaces this snapshot, and calls that wait see that there may be one.
        self.0.snapshot.store(Arc::new(Snapshot { list, entries, active: None, outlook: Outlook::Orphaned }));
        self.0.is_followed.store(false, Ordering::Release);
        self.0.replaced.notify_waiters();
    }
}
