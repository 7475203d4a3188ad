//! One endpoint of many: its connections, its load and its health.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_discovery::{Candidate, Endpoint, Load};
use farcall_protocol::{Code, Execution};
use farcall_transport::Address;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::status::{EndpointStatus, Health};
use crate::backoff::Backoff;
use crate::connection::Connection;
use crate::error::{Phase, RpcError};
use crate::links::Links;

/// An endpoint that calls go to. It outlives changes of its description, such as of its weight.
#[derive(Debug)]
pub(crate) struct Member {
    id: u64,
    links: Links,
    load: Arc<Load>,
    /// Failures in a row.
    failures: AtomicU32,
    /// How many are too many: one, where it was let back and has proven nothing yet.
    limit: AtomicU32,
    usual_limit: u32,
    /// A [`Condition`], to be read without the lock.
    condition: AtomicU8,
    record: Mutex<Record>,
    unwell: Arc<Notify>,
    /// Cancelled when it has left the list.
    gone: CancellationToken,
}

/// How a member is, as its calls have found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Condition {
    #[default]
    Well,
    /// Too many calls in a row have failed.
    Failing,
    /// There is no connection, and none could be made at once.
    Lost,
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
        let limit = shared.outliers.limit();
        Self {
            id,
            links: Links::new(address, &shared.options, shared.connections),
            load: Arc::default(),
            failures: AtomicU32::new(0),
            limit: AtomicU32::new(limit),
            usual_limit: limit,
            condition: AtomicU8::new(Condition::Well as u8),
            record: Mutex::default(),
            unwell: Arc::clone(&shared.unwell),
            gone: CancellationToken::new(),
        }
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) const fn links(&self) -> &Links {
        &self.links
    }

    pub(super) const fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// What pickers see of it, under this description.
    pub(super) fn candidate(&self, endpoint: &Arc<Endpoint>) -> Candidate {
        Candidate { id: self.id, endpoint: Arc::clone(endpoint), load: Arc::clone(&self.load) }
    }

    pub(super) fn status(&self, endpoint: &Arc<Endpoint>) -> EndpointStatus {
        let record = self.record();
        let trouble = record.trouble.as_ref().filter(|_| record.left_out);
        let health = match (record.condition, trouble) {
            (Condition::Lost, Some((why, since))) => {
                Health::Unreachable { since: since.elapsed(), why: why.clone() }
            }
            (Condition::Failing, Some((why, since))) => {
                Health::Ejected { since: since.elapsed(), why: why.clone() }
            }
            _ => Health::Well,
        };
        drop(record);
        EndpointStatus {
            endpoint: Arc::clone(endpoint),
            health,
            connections: self.links.count_ready(),
            in_flight: self.load.in_flight(),
            latency: self.load.latency(),
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
            lost if lost == Condition::Lost as u8 => Condition::Lost,
            failing if failing == Condition::Failing as u8 => Condition::Failing,
            _ => Condition::Well,
        }
    }

    /// The connection is gone, and no call should wait for the next one where another can do.
    pub(crate) fn lost(&self, why: RpcError) {
        self.falls_ill(Condition::Lost, why);
    }

    fn succeeded(&self) {
        // Read before it is written, so that calls do not fight for the cache line.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.limit.load(Ordering::Relaxed) != self.usual_limit {
            self.limit.store(self.usual_limit, Ordering::Relaxed);
        }
    }

    fn failed(&self, why: &RpcError) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= self.limit.load(Ordering::Relaxed) {
            self.falls_ill(Condition::Failing, why.clone());
        }
    }

    fn falls_ill(&self, condition: Condition, why: RpcError) {
        let mut record = self.record();
        if record.condition != Condition::Well {
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
        if record.condition == Condition::Failing {
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
        self.set(record, Condition::Well);
    }

    fn set(&self, mut record: MutexGuard<'_, Record>, condition: Condition) {
        record.condition = condition;
        self.condition.store(condition as u8, Ordering::Release);
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's stay at a member, which counts it in the load.
#[derive(Debug)]
pub(crate) struct Visit {
    member: Arc<Member>,
    began: Instant,
}

impl Visit {
    /// A call goes there.
    pub(crate) fn new(member: &Arc<Member>) -> Self {
        member.load.begun();
        Self { member: Arc::clone(member), began: Instant::now() }
    }

    pub(crate) const fn member(&self) -> &Arc<Member> {
        &self.member
    }

    pub(crate) fn ready(&self) -> Option<Connection> {
        self.member.links.ready()
    }

    /// Draws the conclusions from how the call ended.
    pub(crate) fn learn(&self, error: Option<&RpcError>) {
        let Some(error) = error else {
            self.member.load.took(self.began.elapsed());
            return self.member.succeeded();
        };
        match (error.phase(), error.code()) {
            (Phase::Resolve | Phase::Connect, Code::Unavailable)
            | (Phase::Handshake, Code::Unavailable | Code::ResourceExhausted) => {
                self.member.lost(error.clone());
            }
            (Phase::Wait | Phase::Answer, Code::DeadlineExceeded) => {
                self.member.load.took(self.began.elapsed());
                self.member.failed(error);
            }
            (Phase::Answer, Code::Unavailable | Code::Internal) => self.member.failed(error),
            // It answered, if only with what the caller did wrong.
            (Phase::Answer, _) if error.execution() == Execution::Done => {
                self.member.load.took(self.began.elapsed());
                self.member.succeeded();
            }
            // A connection that is lost may take a thousand calls with it, which says less than whether
            // it can be made again; and what never left says nothing.
            _ => {}
        }
    }
}

impl Drop for Visit {
    /// However the call ends, by its caller's going away, too, it is no longer under way.
    fn drop(&mut self) {
        self.member.load.ended();
    }
}
