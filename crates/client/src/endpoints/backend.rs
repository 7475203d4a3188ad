//! The state of one endpoint of a channel: its connections, its load and its health.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_discovery::{Backoff, Candidate, Endpoint, Load};
use farcall_runtime::time::Instant;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::outlier_detection::OutlierDetection;
use super::status::{EndpointStatus, Health};
use crate::connection::backoff::reconnect_backoff;
use crate::connection::pool::ConnectionPool;
use crate::error::RpcError;
use crate::totals::{LatencyShard, Totals};

/// An endpoint that calls are sent to. It outlives changes of its description, such as of its weight.
pub(crate) struct Backend {
    id: u64,
    pool: ConnectionPool,
    load: Arc<Load>,
    /// The channel's histogram of latencies, a part of it.
    latency: Arc<LatencyShard>,
    counters: Counters,
    /// Failures in a row.
    failures: AtomicU32,
    /// The number of failures that ejects it: 1 while it is on probation, after it was reinstated.
    failure_limit: AtomicU32,
    usual_failure_limit: u32,
    /// A [`Condition`], read without the lock.
    condition: AtomicU8,
    record: Mutex<Record>,
    /// Notifies the task of the endpoints, which is shared by all backends.
    health_changed: Arc<Notify>,
    /// Notified when a call succeeds while the backend counts as unreachable.
    answered: Notify,
    /// `true` while the balancer leaves it out.
    outside: AtomicBool,
    /// Cancelled when the endpoint has left the list.
    removed: CancellationToken,
}

/// Totals of the calls that went there, for status pages.
#[derive(Debug, Default)]
// Aligned, so that these counters, which every call writes, share no cache line with what every call reads.
#[repr(align(128))]
struct Counters {
    calls: AtomicU64,
    errors: AtomicU64,
}

/// The health of a backend without its details. The words are those of [`Health`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Condition {
    #[default]
    Healthy,
    /// Too many calls in a row have failed.
    Ejected,
    /// There is no connection, and none could be made.
    Unreachable,
}

#[derive(Debug)]
struct Record {
    condition: Condition,
    /// `true` while the task leaves it out of the choice.
    left_out: bool,
    /// The error that made it unhealthy, and when.
    trouble: Option<(RpcError, Instant)>,
    backoff: Backoff,
    /// When it was reinstated last.
    reinstated: Option<Instant>,
    /// Stops its probes.
    probes: Option<CancellationToken>,
}

/// A backend that was healthy for this long starts with the first pause when it becomes unhealthy again.
const FAILURE_MEMORY: Duration = Duration::from_secs(60);

impl Backend {
    pub(super) fn new(
        id: u64,
        pool: ConnectionPool,
        outlier_detection: OutlierDetection,
        health_changed: Arc<Notify>,
        totals: &Totals,
    ) -> Self {
        let failure_limit = outlier_detection.limit();
        let load = Arc::default();
        pool.report_load_to(&load);
        Self {
            id,
            pool,
            load,
            latency: Arc::clone(totals.latency_shard(id)),
            counters: Counters::default(),
            failures: AtomicU32::new(0),
            failure_limit: AtomicU32::new(failure_limit),
            usual_failure_limit: failure_limit,
            condition: AtomicU8::new(Condition::Healthy as u8),
            record: Mutex::new(Record {
                condition: Condition::Healthy,
                left_out: false,
                trouble: None,
                backoff: reconnect_backoff(),
                reinstated: None,
                probes: None,
            }),
            health_changed,
            answered: Notify::new(),
            outside: AtomicBool::new(false),
            removed: CancellationToken::new(),
        }
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) const fn pool(&self) -> &ConnectionPool {
        &self.pool
    }

    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// Counts a call that starts.
    pub(super) fn call_started(&self) {
        self.load.started();
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back the count of a call that went elsewhere. Its place in the load is given back apart from this.
    pub(super) fn uncount_call(&self) {
        self.counters.calls.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records the time that an attempt took.
    pub(super) fn record_latency(&self, latency: Duration) {
        self.load.record_latency(latency);
        self.latency.record(latency);
    }

    /// Counts a call that ended with an error, which may be the caller's fault.
    pub(super) fn count_error(&self) {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the backend as balancers see it, with this description.
    pub(super) fn candidate(&self, endpoint: &Arc<Endpoint>) -> Candidate {
        Candidate::new(self.id, Arc::clone(endpoint), Arc::clone(&self.load))
    }

    pub(super) fn status(&self, endpoint: &Arc<Endpoint>) -> EndpointStatus {
        let record = self.record();
        let trouble = record.trouble.as_ref().filter(|_| record.left_out);
        let health = match (record.condition, trouble) {
            (Condition::Unreachable, Some((error, since))) => {
                Health::Unreachable { since: since.elapsed(), error: error.clone() }
            }
            (Condition::Ejected, Some((error, since))) => {
                Health::Ejected { since: since.elapsed(), error: error.clone() }
            }
            _ => Health::Healthy,
        };
        drop(record);
        let now = Instant::now();
        EndpointStatus {
            endpoint: Arc::clone(endpoint),
            health,
            is_outside: self.is_outside() && !endpoint.is_drained(),
            connections: self.pool.count_ready(),
            in_flight: self.load.in_flight(),
            latency: self.load.latency(),
            reported_load: self.load.report_at(now, Duration::ZERO, Duration::MAX),
            report_age: self.load.report_age_at(now),
            calls: self.counters.calls.load(Ordering::Relaxed),
            failures: self.counters.errors.load(Ordering::Relaxed),
        }
    }

    pub(super) fn is_outside(&self) -> bool {
        self.outside.load(Ordering::Relaxed)
    }

    /// Notes if it gets no calls because the balancer leaves it out.
    pub(super) fn set_outside(&self, outside: bool) {
        self.outside.store(outside, Ordering::Relaxed);
    }

    /// Forgets its trouble, and ends its probes.
    pub(super) fn forget_health(&self) {
        if self.condition() != Condition::Healthy {
            let mut record = self.record();
            if let Some(probes) = record.probes.take() {
                probes.cancel();
            }
            self.failure_limit.store(self.usual_failure_limit, Ordering::Relaxed);
            self.mark_healthy(record);
        }
    }

    /// Closes its connections if no call uses them. A later call dials again.
    pub(super) fn close_if_idle(&self) {
        if self.load.in_flight() == 0 && self.pool.any_ready().is_some() {
            self.pool.close();
        }
    }

    /// Ends the use of an endpoint that has left the list. Calls in flight are finished.
    pub(super) fn remove(&self) {
        self.removed.cancel();
        self.pool.close();
    }
}

/// Health: how the outcomes of calls and probes change it.
impl Backend {
    pub(super) fn condition(&self) -> Condition {
        match self.condition.load(Ordering::Acquire) {
            unreachable if unreachable == Condition::Unreachable as u8 => Condition::Unreachable,
            ejected if ejected == Condition::Ejected as u8 => Condition::Ejected,
            _ => Condition::Healthy,
        }
    }

    /// Marks it as unreachable, so that no call waits for its next connection while others can be used.
    pub(crate) fn mark_unreachable(&self, error: RpcError) {
        // Another call may have connected meanwhile.
        if self.pool.any_ready().is_none() {
            self.mark_unhealthy(Condition::Unreachable, error, Instant::now());
        }
    }

    /// Waits until a call succeeds while the backend counts as unreachable.
    pub(super) async fn answered(&self) {
        self.answered.notified().await;
    }

    pub(super) fn record_success(&self) {
        // Read before written, so that calls do not contend for the cache line.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.failure_limit.load(Ordering::Relaxed) != self.usual_failure_limit {
            self.failure_limit.store(self.usual_failure_limit, Ordering::Relaxed);
        }
        if self.condition() == Condition::Unreachable {
            self.answered.notify_one();
        }
    }

    /// Records the failure of a call that was sent there at `started_at`.
    pub(super) fn record_failure(&self, error: &RpcError, started_at: Instant) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= self.failure_limit.load(Ordering::Relaxed) {
            self.mark_unhealthy(Condition::Ejected, error.clone(), started_at);
        }
    }

    fn mark_unhealthy(&self, condition: Condition, error: RpcError, started_at: Instant) {
        let mut record = self.record();
        // A call from before it was reinstated says nothing about its health since.
        let is_stale = record.reinstated.is_some_and(|reinstated| started_at < reinstated);
        if record.condition != Condition::Healthy || is_stale {
            return;
        }
        let now = Instant::now();
        if record.reinstated.is_none_or(|reinstated| now - reinstated >= FAILURE_MEMORY) {
            record.backoff.reset();
        }
        record.trouble = Some((error, now));
        self.set_condition(record, condition);
        self.health_changed.notify_one();
    }

    /// Notes that it gets no calls until it is reinstated. Returns the token that stops the probes until then.
    pub(super) fn leave_out(&self) -> CancellationToken {
        let stop = self.removed.child_token();
        let mut record = self.record();
        record.left_out = true;
        record.probes = Some(stop.clone());
        stop
    }

    /// Returns the pause before the next probe.
    pub(super) fn probe_pause(&self) -> Duration {
        let pause = self.record().backoff.next_pause();
        let until_dial = self.pool.next_dial_at().map(|at| at - Instant::now());
        pause.max(until_dial.unwrap_or_default())
    }

    /// Records the error of a probe.
    pub(super) fn record_probe_failure(&self, error: RpcError) {
        if let Some((last, _)) = &mut self.record().trouble {
            *last = error;
        }
    }

    /// Gives it calls again after a probe that succeeded. If it was ejected, it is on probation: one failure
    /// ejects it again.
    pub(super) fn reinstate(&self) {
        let mut record = self.record();
        record.reinstated = Some(Instant::now());
        if record.condition == Condition::Ejected {
            self.failure_limit.store(1, Ordering::Relaxed);
        }
        self.mark_healthy(record);
    }

    /// Keeps giving it calls, since too many others are ejected.
    pub(super) fn reinstate_for_panic_threshold(&self) {
        self.mark_healthy(self.record());
    }

    fn mark_healthy(&self, mut record: MutexGuard<'_, Record>) {
        record.trouble = None;
        record.left_out = false;
        self.failures.store(0, Ordering::Relaxed);
        self.set_condition(record, Condition::Healthy);
    }

    fn set_condition(&self, mut record: MutexGuard<'_, Record>, condition: Condition) {
        record.condition = condition;
        self.condition.store(condition as u8, Ordering::Release);
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("endpoint", self.pool.endpoint())
            .field("condition", &self.condition())
            .field("in_flight", &self.load.in_flight())
            .finish_non_exhaustive()
    }
}
