//! The task of a channel's endpoints: it follows the list, leaves out unhealthy backends, and reinstates those
//! that have recovered.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::{
    Candidates, Discovery, EndpointList, Publisher, SourceError, Subscription, publisher,
};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep};
use tracing::{debug, error};

use super::backend::{Backend, Condition};
use super::probe::probe_until_healthy;
use super::shared::Shared;
use super::snapshot::{ActiveSet, Snapshot, SnapshotEntry};
use crate::connection::pool::ConnectionPool;

/// A source of endpoints that was not started yet.
pub(crate) struct Source {
    /// The source's description, for errors and pages.
    pub(super) origin: String,
    run: Box<dyn FnOnce(Publisher) -> BoxFuture<'static, ()> + Send>,
}

impl Source {
    pub(crate) fn new(discovery: impl Discovery) -> Self {
        let origin = discovery.describe();
        Self { origin, run: Box::new(move |publisher| Box::pin(discovery.run(publisher))) }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.origin).finish()
    }
}

/// The state of the task.
pub(super) struct Watch {
    shared: Arc<Shared>,
    subscription: Subscription,
    source: SourceTask,
    /// The error that the end of the source means; `None` while it runs.
    source_error: Option<SourceError>,
    next_id: u64,
    /// Probes of the unhealthy backends, at most one for each.
    probes: FuturesUnordered<BoxFuture<'static, u64>>,
    /// The backends that are left out, by id.
    unhealthy: HashMap<u64, Condition>,
}

/// The task of the source, aborted when this is dropped.
struct SourceTask {
    task: JoinHandle<()>,
    ended: bool,
}

/// With ten thousand endpoints a snapshot takes milliseconds, and when many become unhealthy there is always a
/// next one to make. Slower than this, at most half of the task's time is spent on snapshots.
const FAST_REBUILD: Duration = Duration::from_millis(1);

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, source: Source) -> Self {
        let (publisher, subscription) = publisher();
        // Not set before, since a channel has one such task.
        let _ = shared.list.set(subscription.clone());
        // `run` is called inside the task: a panic in it is the source's failure, not the caller's.
        let task = tokio::spawn(async move { (source.run)(publisher).await });
        let source = SourceTask { task, ended: false };
        let (probes, unhealthy) = (FuturesUnordered::new(), HashMap::new());
        Self { shared, subscription, source, source_error: None, next_id: 0, probes, unhealthy }
    }

    pub(super) async fn run(mut self) {
        // Set once the source has dropped its publisher: its last list stays in force.
        let mut silent = false;
        loop {
            // All arms are cancel-safe: each is only a signal to make the next snapshot.
            tokio::select! {
                changed = self.subscription.changed(), if !silent => silent = changed.is_err(),
                end = self.source.end(), if !self.source.ended => self.source_ended(end),
                () = self.shared.health_changed.notified() => {}
                Some(id) = self.probes.next(), if !self.probes.is_empty() => self.probe_finished(id),
            }
            let begin = Instant::now();
            self.rebuild_snapshot();
            let took = begin.elapsed();
            if took > FAST_REBUILD {
                // Changes meanwhile go into the next snapshot together.
                sleep(took).await;
            }
        }
    }

    /// Makes the next snapshot, in time linear in the number of endpoints.
    fn rebuild_snapshot(&mut self) {
        let list = self.current_list();
        let last = self.shared.snapshot.load_full();
        let entries = self.entries(&list, &last);
        self.eject_outliers(&entries);
        let active = self.active_set(&entries, last.active.as_ref());
        self.shared.replace(Snapshot { list, entries, active });
    }

    /// Removes a backend that was reinstated, or has left the list, from the unhealthy ones; and all others whose
    /// probes have finished by now.
    fn probe_finished(&mut self, id: u64) {
        self.unhealthy.remove(&id);
        while let Some(Some(id)) = self.probes.next().now_or_never() {
            self.unhealthy.remove(&id);
        }
    }

    fn source_ended(&mut self, end: Result<(), JoinError>) {
        let reason = match end {
            Ok(()) if self.subscription.borrow().confirmed.is_some() => return,
            Ok(()) => "its discovery ended without a list",
            Err(error) => {
                error!(origin = self.shared.origin, %error, "the discovery of endpoints has panicked");
                "its discovery panicked"
            }
        };
        self.source_error = Some(SourceError::new(reason));
    }

    fn current_list(&mut self) -> EndpointList {
        let mut list = self.subscription.borrow_and_update().clone();
        if let Some(error) = &self.source_error {
            list.failing = Some(error.clone());
        }
        list
    }

    /// Returns an entry for each endpoint, with the same backend as before if it was there. Both lists are sorted.
    fn entries(&mut self, list: &EndpointList, last: &Snapshot) -> Vec<SnapshotEntry> {
        let mut remove = |left: &SnapshotEntry| {
            left.backend.remove();
            self.unhealthy.remove(&left.backend.id());
        };
        let Shared { options, connections, outlier_detection, health_changed, totals, .. } = &*self.shared;
        let mut old = last.entries.iter().peekable();
        let mut entries = Vec::with_capacity(list.endpoints.len());
        for endpoint in &*list.endpoints {
            while let Some(left) = old.next_if(|entry| entry.endpoint.address < endpoint.address) {
                remove(left);
            }
            let backend = match old.next_if(|entry| entry.endpoint.address == endpoint.address) {
                Some(stays) => Arc::clone(&stays.backend),
                None => {
                    self.next_id += 1;
                    let pool = ConnectionPool::new(&endpoint.address, options, *connections);
                    let health_changed = Arc::clone(health_changed);
                    Arc::new(Backend::new(self.next_id, pool, *outlier_detection, health_changed, totals))
                }
            };
            entries.push(SnapshotEntry { endpoint: Arc::clone(endpoint), backend });
        }
        old.for_each(remove);
        entries
    }

    /// Leaves out the backends that have become unhealthy, but ejects at most half of them for failing calls.
    fn eject_outliers(&mut self, entries: &[SnapshotEntry]) {
        let (mut known, mut ejected) = (0, 0);
        for entry in entries.iter().filter(|entry| !entry.endpoint.is_drained()) {
            known += 1;
            ejected += usize::from(self.unhealthy.get(&entry.backend.id()) == Some(&Condition::Ejected));
        }
        for SnapshotEntry { backend, endpoint } in entries {
            let condition = backend.condition();
            if condition == Condition::Healthy || self.unhealthy.contains_key(&backend.id()) {
                continue;
            }
            if condition == Condition::Ejected {
                if (ejected + 1) * 2 > known {
                    backend.reinstate_for_panic_threshold();
                    continue;
                }
                ejected += 1;
                self.shared.totals.count_ejection();
            }
            debug!(endpoint = %endpoint.address, ?condition, "left out");
            backend.leave_out();
            self.unhealthy.insert(backend.id(), condition);
            let options = Arc::clone(&self.shared.options);
            self.probes.push(Box::pin(probe_until_healthy(Arc::clone(backend), options)));
        }
    }

    /// Returns the endpoints that get calls. The last picker is kept if nothing has changed for it.
    fn active_set(&self, entries: &[SnapshotEntry], last: Option<&Arc<ActiveSet>>) -> Option<Arc<ActiveSet>> {
        let all = entries.iter().map(|SnapshotEntry { endpoint, backend }| {
            (backend.candidate(endpoint), self.unhealthy.contains_key(&backend.id()))
        });
        let candidates = Candidates::select(&all.collect::<Vec<_>>())?;
        // The usable candidates are in the order of the entries.
        let mut ids = candidates.usable.iter().map(|candidate| candidate.id).peekable();
        let usable = entries.iter().filter(|entry| ids.next_if_eq(&entry.backend.id()).is_some());
        let usable: Vec<SnapshotEntry> = usable.cloned().collect();
        let same = |last: &&Arc<ActiveSet>| {
            last.known == candidates.known.len()
                && last.usable.len() == usable.len()
                && last.usable.iter().zip(&usable).all(|(last, now)| {
                    last.backend.id() == now.backend.id() && Arc::ptr_eq(&last.endpoint, &now.endpoint)
                })
        };
        if let Some(last) = last.filter(same) {
            return Some(Arc::clone(last));
        }
        let known = candidates.known.len();
        Some(Arc::new(ActiveSet { usable, known, picker: self.shared.balancer.picker(&candidates) }))
    }
}

impl Drop for Watch {
    /// Puts an error into the snapshot when the task ends: the channel is gone, its runtime was shut down, or a
    /// user's balancer panicked. Calls that wait for endpoints fail then.
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!(origin = self.shared.origin, "the task that looks for endpoints has panicked");
        }
        let Snapshot { list, entries, active } = &*self.shared.snapshot.load_full();
        let mut list = list.clone();
        list.failing = Some(SourceError::new("the task that looks for endpoints has ended"));
        self.shared.replace(Snapshot { list, entries: entries.clone(), active: active.clone() });
    }
}

impl SourceTask {
    /// Waits until the source has ended. Not called again afterwards.
    async fn end(&mut self) -> Result<(), JoinError> {
        let end = (&mut self.task).await;
        self.ended = true;
        end
    }
}

impl Drop for SourceTask {
    /// Ends the source, whose lists are not read any more.
    fn drop(&mut self) {
        self.task.abort();
    }
}
