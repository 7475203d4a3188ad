//! One endpoint of many: its connections, its load and its health.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_discovery::{Candidate, Endpoint, Load};
use farcall_transport::Address;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::status::{EndpointStatus, Health};
use crate::connection::backoff::Backoff;
use crate::connection::pool::Links;
use crate::error::RpcError;

/// An endpoint that calls go to. It outlives changes of its description, such as of its weight.
pub(crate) struct Member {
    id: u64,
    links: Links,
    load: Arc<Load>,
    tally: Tally,
    /// Failures in a row.
    failures: AtomicU32,
    /// How many are too many: one, where it was let back and has proven nothing yet.
    limit: AtomicU32,
    usual_limit: u32,
    /// A [`Condition`], to be read without the lock.
    condition: AtomicU8,
    record: Mutex<Record>,
    unwell: Arc<Notify>,
    /// Told when a call was answered though nobody could be connected to before.
    answered: Notify,
    /// Cancelled when it has left the list.
    gone: CancellationToken,
}

/// What has come of the calls that went there, for people.
#[derive(Debug, Default)]
// What every call writes to is on no cache line with what every call reads.
#[repr(align(128))]
struct Tally {
    calls: AtomicU64,
    failures: AtomicU64,
}

/// How a member is, as its calls have found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Condition {
    #[default]
    Healthy,
    /// Too many calls in a row have failed.
    Ejected,
    /// There is no connection, and none could be made at once.
    Unreachable,
}

#[derive(Debug, Default)]
struct Record {
    condition: Condition,
    /// Whether the task has taken it out of the choice.
    left_out: bool,
    /// Why it is not well, and since when.
    trouble: Option<(RpcError, Instant)>,
    backoff: Backoff,
    /// When it was let back last.
    restored: Option<Instant>,
}

/// A member that has been well for so long has its old troubles forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

impl Member {
    pub(super) fn new(id: u64, address: &Address, shared: &Shared) -> Self {
        let limit = shared.outlier_detection.limit();
        Self {
            id,
            links: Links::new(address, &shared.options, shared.connections),
            load: Arc::default(),
            tally: Tally::default(),
            failures: AtomicU32::new(0),
            limit: AtomicU32::new(limit),
            usual_limit: limit,
            condition: AtomicU8::new(Condition::Healthy as u8),
            record: Mutex::default(),
            unwell: Arc::clone(&shared.unwell),
            answered: Notify::new(),
            gone: CancellationToken::new(),
        }
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) const fn links(&self) -> &Links {
        &self.links
    }

    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// A call goes there.
    pub(super) fn called(&self) {
        self.load.started();
        self.tally.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// A call there has ended with an error, which may be the caller's own fault.
    pub(super) fn count_failure(&self) {
        self.tally.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) const fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// What pickers see of it, under this description.
    pub(super) fn candidate(&self, endpoint: &Arc<Endpoint>) -> Candidate {
        Candidate::new(self.id, Arc::clone(endpoint), Arc::clone(&self.load))
    }

    pub(super) fn status(&self, endpoint: &Arc<Endpoint>) -> EndpointStatus {
        let record = self.record();
        let trouble = record.trouble.as_ref().filter(|_| record.left_out);
        let health = match (record.condition, trouble) {
            (Condition::Unreachable, Some((why, since))) => {
                Health::Unreachable { since: since.elapsed(), why: why.clone() }
            }
            (Condition::Ejected, Some((why, since))) => {
                Health::Ejected { since: since.elapsed(), why: why.clone() }
            }
            _ => Health::Healthy,
        };
        drop(record);
        EndpointStatus {
            endpoint: Arc::clone(endpoint),
            health,
            connections: self.links.count_ready(),
            in_flight: self.load.in_flight(),
            latency: self.load.latency(),
            calls: self.tally.calls.load(Ordering::Relaxed),
            failures: self.tally.failures.load(Ordering::Relaxed),
        }
    }

    /// It has left the list: what is under way is finished.
    pub(super) fn leave(&self) {
        self.gone.cancel();
        self.links.close();
    }
}

/// What calls find, and what is made of it.
impl Member {
    pub(super) fn condition(&self) -> Condition {
        match self.condition.load(Ordering::Acquire) {
            lost if lost == Condition::Unreachable as u8 => Condition::Unreachable,
            failing if failing == Condition::Ejected as u8 => Condition::Ejected,
            _ => Condition::Healthy,
        }
    }

    /// The connection is gone, and no call should wait for the next one where another can do.
    pub(crate) fn lost(&self, why: RpcError) {
        // Somebody else may have had more luck meanwhile.
        if self.links.any_ready().is_none() {
            self.falls_ill(Condition::Unreachable, why, Instant::now());
        }
    }

    /// Ready when a call was answered that went to a member which is lost.
    pub(super) async fn answered(&self) {
        self.answered.notified().await;
    }

    pub(super) fn succeeded(&self) {
        // Read before it is written, so that calls do not fight for the cache line.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.limit.load(Ordering::Relaxed) != self.usual_limit {
            self.limit.store(self.usual_limit, Ordering::Relaxed);
        }
        if self.condition() == Condition::Unreachable {
            self.answered.notify_one();
        }
    }

    /// A call that went there `asked` has failed.
    pub(super) fn failed(&self, why: &RpcError, asked: Instant) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= self.limit.load(Ordering::Relaxed) {
            self.falls_ill(Condition::Ejected, why.clone(), asked);
        }
    }

    fn falls_ill(&self, condition: Condition, why: RpcError, asked: Instant) {
        let mut record = self.record();
        // What was asked before it was let back says nothing of how it is now.
        let long_ago = record.restored.is_some_and(|restored| asked < restored);
        if record.condition != Condition::Healthy || long_ago {
            return;
        }
        let now = Instant::now();
        if record.restored.is_none_or(|restored| now - restored >= FORGIVEN_AFTER) {
            record.backoff.reset();
        }
        record.trouble = Some((why, now));
        self.set(record, condition);
        self.unwell.notify_one();
    }

    /// It gets no calls until it is restored.
    pub(super) fn leave_out(&self) {
        self.record().left_out = true;
    }

    /// How long to leave it alone before the next probe.
    pub(super) fn pause(&self) -> Duration {
        let pause = self.record().backoff.failed();
        let rest = self.links.rests_until().map(|until| until - Instant::now());
        pause.max(rest.unwrap_or_default())
    }

    /// A probe failed, too.
    pub(super) fn stays_ill(&self, why: RpcError) {
        if let Some((last, _)) = &mut self.record().trouble {
            *last = why;
        }
    }

    /// A probe succeeded: it gets calls again, on probation.
    pub(super) fn restore(&self) {
        let mut record = self.record();
        record.restored = Some(Instant::now());
        if record.condition == Condition::Ejected {
            self.limit.store(1, Ordering::Relaxed);
        }
        self.recovers(record);
    }

    /// It goes on getting calls, since too many others are left out.
    pub(super) fn pardon(&self) {
        self.recovers(self.record());
    }

    fn recovers(&self, mut record: MutexGuard<'_, Record>) {
        record.trouble = None;
        record.left_out = false;
        self.failures.store(0, Ordering::Relaxed);
        self.set(record, Condition::Healthy);
    }

    fn set(&self, mut record: MutexGuard<'_, Record>, condition: Condition) {
        record.condition = condition;
        self.condition.store(condition as u8, Ordering::Release);
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("endpoint", self.links.endpoint())
            .field("condition", &self.condition())
            .field("in_flight", &self.load.in_flight())
            .finish_non_exhaustive()
    }
}
