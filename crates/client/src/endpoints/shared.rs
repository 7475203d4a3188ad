//! The state that a channel's calls and the task of its endpoints share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use farcall_discovery::{Balancer, KeySource, Subscription};
use tokio::sync::Notify;

use super::outlier_detection::OutlierDetection;
use super::snapshot::Snapshot;
use crate::connection::options::ConnectionOptions;
use crate::totals::Totals;

/// The state that a channel's calls and the task of its endpoints share.
pub(super) struct Shared {
    /// The endpoints to choose among, replaced as a whole by the task.
    pub(super) snapshot: ArcSwap<Snapshot>,
    /// Notified when the snapshot was replaced.
    pub(super) replaced: Notify,
    /// The list of the source, once the task follows it. A list that is confirmed without a change makes no new
    /// snapshot, so its age is read from here.
    pub(super) list: OnceLock<Subscription>,
    /// Notified by backends whose health has changed.
    pub(super) health_changed: Arc<Notify>,
    pub(super) balancer: Box<dyn Balancer>,
    pub(super) key_source: KeySource,
    pub(super) options: Arc<ConnectionOptions>,
    pub(super) connections: usize,
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
        connections: usize,
        outlier_detection: OutlierDetection,
    ) -> Self {
        Self {
            snapshot: ArcSwap::default(),
            replaced: Notify::new(),
            list: OnceLock::new(),
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

    /// Replaces the snapshot.
    pub(super) fn replace(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.replaced.notify_waiters();
    }

    /// Returns the time since the list was last known to be true.
    pub(super) fn age(&self) -> Option<Duration> {
        let confirmed = self.list.get()?.borrow().confirmed;
        confirmed.map(|confirmed| confirmed.elapsed())
    }
}
