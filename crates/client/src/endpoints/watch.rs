//! The task of a channel's endpoints: it follows the list, leaves out unhealthy backends, and reinstates those
//! that have recovered.

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::source::aside;
use farcall_discovery::{Backoff, Candidate, Candidates, EndpointList, Jitter, SourceError};
use farcall_protocol::time::later;
use farcall_protocol::{EscapedText, panic_message};
use farcall_runtime::time::{Instant, sleep, sleep_until};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tracing::{debug, error};

use super::backend::{Backend, Condition};
use super::probe::probe_until_healthy;
use super::reach::Reach;
use super::shared::{Follower, Shared};
use super::snapshot::{ActiveSet, Outlook, Snapshot, SnapshotEntry};
use super::source::{RunEnd, Source, SourceRun};
use crate::connection::pool::ConnectionPool;

/// The state of the task.
struct Watch {
    shared: Arc<Shared>,
    source: Arc<Source>,
    run: SourceRun,
    /// The error that the end of the run means; `None` while it goes on.
    run_error: Option<SourceError>,
    /// `true` once the run is complete: its last list stays in force.
    is_complete: bool,
    /// When the source is run again after a panic.
    restart_at: Option<Instant>,
    restarts: Backoff,
    next_id: u64,
    /// Probes of the unhealthy backends, at most one for each.
    probes: FuturesUnordered<BoxFuture<'static, Option<u64>>>,
    /// The backends that are left out, by id.
    unhealthy: HashMap<u64, Condition>,
    /// The backends that the balancer does not leave out.
    reach: Reach,
    /// `true` if the balancer leaves out some endpoints, or keeps some as spares.
    has_outside: bool,
    /// When connections to the others are looked for next.
    next_sweep: Instant,
}

/// The pauses after panics of a source, and of what chooses among its endpoints.
const RESTARTS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15)).jitter(Jitter::Equal);
/// A task that ran for this long before it panicked starts again after the first pause.
const LASTING: Duration = Duration::from_secs(60);
/// With ten thousand endpoints a snapshot takes milliseconds, and when many become unhealthy there is always a
/// next one to make. Slower than this, at most half of the task's time is spent on snapshots.
const FAST_REBUILD: Duration = Duration::from_millis(1);
/// The work at an endpoint of a snapshot, as the bytes that are parsed in the same time: half a microsecond, and twice that
/// for one that is new.
const BYTES_PER_ENDPOINT: usize = 128;
/// The interval in which connections to endpoints outside of the reach are looked for. They are closed when their last call
/// has ended.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Follows the endpoints of `source` until the channel is dropped or the runtime is shut down. A panic, as of a user's
/// balancer, is reported to the log and to callers, and followed by another start.
pub(super) async fn follow(follower: Follower, source: Arc<Source>) {
    let shared = follower.shared();
    let mut restarts = RESTARTS;
    loop {
        let begin = Instant::now();
        let watch = Watch::new(Arc::clone(shared), Arc::clone(&source));
        let Err(panic) = AssertUnwindSafe(watch.run()).catch_unwind().await;
        let panic = EscapedText(panic_message(&*panic)).to_string();
        error!(origin = shared.origin, panic, "the task that looks for endpoints has panicked");
        let Snapshot { list, entries, active, .. } = &*shared.snapshot.load_full();
        let (mut list, entries, active) = (list.clone(), entries.clone(), active.clone());
        list.failing = Some(SourceError::new(format!(
            "the task that looks for endpoints has ended: it panicked: {panic}"
        )));
        drop(shared.replace(Snapshot { list, entries, active, outlook: Outlook::Final }));
        if begin.elapsed() >= LASTING {
            restarts.reset();
        }
        sleep(restarts.next_pause()).await;
    }
}

/// Returns the work at this number of endpoints, as [`aside`] measures it.
const fn work_bytes(endpoints: usize) -> usize {
    endpoints.saturating_mul(BYTES_PER_ENDPOINT)
}

impl Watch {
    fn new(shared: Arc<Shared>, source: Arc<Source>) -> Self {
        let last = shared.snapshot.load_full();
        // A failure of the last run says nothing about this one.
        let mut list = last.list.clone();
        list.failing = None;
        let run = source.run(list);
        shared.set_list(run.subscription.clone());
        // Backends live on, and keep their numbers.
        let next_id = last.entries.iter().map(|entry| entry.backend.id()).max().unwrap_or_default();
        Self {
            shared,
            source,
            // The error of a source that ended in the runtime before is still the reason.
            run_error: last.list.failing.clone().filter(|_| run.is_over),
            is_complete: run.is_over,
            run,
            restart_at: None,
            restarts: RESTARTS,
            next_id,
            probes: FuturesUnordered::new(),
            unhealthy: HashMap::new(),
            reach: Reach::default(),
            has_outside: false,
            next_sweep: Instant::now(),
        }
    }

    async fn run(mut self) -> Infallible {
        // Set once the source has dropped its publisher: its last list stays in force.
        let mut silent = false;
        if self.run.subscription.borrow().confirmed.is_some() {
            // The last list is in force until there is another one.
            self = self.rebuild_snapshot().await;
        }
        loop {
            let (restart_at, next_sweep) = (self.restart_at, self.next_sweep);
            let restart = async {
                match restart_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // All arms are cancel-safe: each is only a signal to make the next snapshot. In order, so that a simulation
            // can be repeated; none is ready again at once for long.
            tokio::select! {
                biased;
                changed = self.run.subscription.changed(), if !silent => {
                    silent = changed.is_err();
                    if !silent {
                        self.run_error = None;
                    }
                }
                end = self.run.task.end() => self.run_ended(end),
                () = restart => {
                    self.restart();
                    silent = false;
                    continue;
                }
                () = self.shared.health_changed.notified() => {}
                Some(id) = self.probes.next(), if !self.probes.is_empty() => self.probe_finished(id),
                () = sleep_until(next_sweep), if self.has_outside => {
                    self.sweep().await;
                    continue;
                }
            }
            let begin = Instant::now();
            self = self.rebuild_snapshot().await;
            let took = begin.elapsed();
            if took > FAST_REBUILD {
                // Changes meanwhile go into the next snapshot together.
                sleep(took).await;
            }
        }
    }

    /// Replaces the snapshot by the next one.
    async fn rebuild_snapshot(mut self) -> Self {
        let entries = self.shared.snapshot.load().entries.len();
        let bytes = work_bytes(entries.max(self.run.subscription.borrow().endpoints.len()));
        let (this, next) = aside(bytes, move || {
            let next = self.next_snapshot();
            (self, next)
        })
        .await;
        self = this;
        // Here, not where it was made: a task that was dropped meanwhile replaces nothing.
        let replaced = self.shared.replace(next);
        aside(bytes, move || drop(replaced)).await;
        // After calls pick among others.
        self.sweep().await;
        self
    }

    /// Makes the next snapshot, in time linear in the number of endpoints.
    fn next_snapshot(&mut self) -> Snapshot {
        let list = self.current_list();
        let last = self.shared.snapshot.load_full();
        let entries = self.entries(&list, &last);
        let mut found = self.found(&entries);
        self.reach = Reach::narrow(&*self.shared.balancer, &mut found);
        self.forget_outside(&entries);
        self.eject_outliers(&entries);
        for (candidate, is_ejected) in &mut found {
            *is_ejected = self.unhealthy.contains_key(&candidate.id);
        }
        let active = self.active_set(&entries, &found, last.active.as_ref());
        self.note_outside(&entries, active.as_deref());
        let outlook = if self.is_final() { Outlook::Final } else { Outlook::Open };
        Snapshot { list, entries, active, outlook }
    }

    /// Returns the endpoints that are not drained, and if each is unhealthy.
    fn found(&self, entries: &[SnapshotEntry]) -> Vec<(Candidate, bool)> {
        let undrained = entries.iter().filter(|entry| !entry.endpoint.is_drained());
        let found = undrained.map(|SnapshotEntry { endpoint, backend }| {
            (backend.candidate(endpoint), backend.condition() != Condition::Healthy)
        });
        found.collect()
    }

    /// Ends the probes of endpoints that the balancer leaves out.
    fn forget_outside(&mut self, entries: &[SnapshotEntry]) {
        for SnapshotEntry { backend, .. } in entries.iter().filter(|entry| !self.reach.has(entry)) {
            backend.forget_health();
            self.unhealthy.remove(&backend.id());
        }
    }

    /// Notes which endpoints get no calls because of the balancer.
    fn note_outside(&mut self, entries: &[SnapshotEntry], active: Option<&ActiveSet>) {
        entries.iter().for_each(|entry| entry.backend.set_outside(!self.reach.has(entry)));
        if let Some(ActiveSet { usable, picker, .. }) = active {
            let spares = usable.iter().enumerate().filter(|(index, _)| picker.is_spare(*index));
            spares.for_each(|(_, spare)| spare.backend.set_outside(true));
        }
        self.has_outside = entries.iter().any(|entry| entry.backend.is_outside());
    }

    /// Closes connections to endpoints that the balancer leaves out.
    async fn sweep(&mut self) {
        if self.has_outside {
            let snapshot = self.shared.snapshot.load_full();
            let bytes = work_bytes(snapshot.entries.len());
            aside(bytes, move || Reach::close_outside(&snapshot.entries)).await;
        }
        self.next_sweep = later(Instant::now(), SWEEP_INTERVAL);
    }

    /// Returns `true` if the source has ended, and does not start again.
    fn is_final(&self) -> bool {
        (self.is_complete || self.run_error.is_some()) && self.restart_at.is_none()
    }

    /// Removes a backend that was reinstated, or has left the list, from the unhealthy ones; and all others whose
    /// probes have finished by now.
    fn probe_finished(&mut self, id: Option<u64>) {
        let mut finished = Some(id);
        while let Some(id) = finished {
            if let Some(id) = id {
                self.unhealthy.remove(&id);
            }
            finished = self.probes.next().now_or_never().flatten();
        }
    }

    fn run_ended(&mut self, end: RunEnd) {
        if self.is_complete {
            return;
        }
        let reason = match end {
            RunEnd::Complete if self.run.subscription.borrow().confirmed.is_some() => {
                self.is_complete = true;
                return;
            }
            RunEnd::Complete => "its discovery ended without a list".to_owned(),
            RunEnd::Panicked(panic) => {
                error!(origin = self.shared.origin, panic, "the discovery of endpoints has panicked");
                if self.run.can_restart {
                    self.restart_at = Some(later(Instant::now(), self.restarts.next_pause()));
                }
                format!("its discovery panicked: {panic}")
            }
        };
        self.run_error = Some(SourceError::new(reason));
    }

    /// Runs the source again after a panic. Its error stays until there is a list.
    fn restart(&mut self) {
        self.restart_at = None;
        let last = self.run.subscription.borrow().clone();
        self.run = self.source.run(last);
        self.shared.set_list(self.run.subscription.clone());
    }

    fn current_list(&mut self) -> EndpointList {
        let mut list = self.run.subscription.borrow_and_update().clone();
        if let Some(error) = &self.run_error {
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
        for entry in entries.iter().filter(|entry| self.reach.has(entry) && !entry.endpoint.is_drained()) {
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
            let stop = backend.leave_out();
            self.unhealthy.insert(backend.id(), condition);
            let options = Arc::clone(&self.shared.options);
            self.probes.push(Box::pin(probe_until_healthy(Arc::clone(backend), options, stop)));
        }
    }

    /// Returns the endpoints that get calls. The last picker is kept if nothing has changed for it.
    fn active_set(
        &self,
        entries: &[SnapshotEntry],
        found: &[(Candidate, bool)],
        last: Option<&Arc<ActiveSet>>,
    ) -> Option<Arc<ActiveSet>> {
        let candidates = Candidates::select(found)?;
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
