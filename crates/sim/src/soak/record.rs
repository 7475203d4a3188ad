//! [`Record`]: the calls of the soak, their outcomes, and what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall::protocol::{Code, Execution};
use farcall::{CallError, RpcError};
use tokio::time::{Instant, sleep};

use super::work::Ledger;
use crate::cluster::Cluster;

/// The calls that were made, and what was found. Cloning is cheap.
#[derive(Clone, Debug)]
pub(super) struct Record {
    state: Arc<Mutex<State>>,
    ledger: Ledger,
    cluster: Cluster,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    /// The calls that are under way, with what they are.
    open: BTreeMap<u64, String>,
    counts: BTreeMap<&'static str, u64>,
    findings: Vec<String>,
    /// When clocks jumped, and by how much.
    jumps: Vec<(Instant, Duration)>,
    /// The entry that the ledger must have of each call in the end.
    expected: BTreeMap<u64, Expected>,
}

/// The entry that the ledger must have of a call, also for what comes after its outcome.
#[derive(Debug, Default)]
struct Expected {
    client: usize,
    what: &'static str,
    /// `true` if it is carried out by several servers, or by further calls after its first, which are no retries.
    is_repeated: bool,
    /// The most handlers that may begin for it.
    most: u32,
    /// The error that says that none has begun.
    not_begun: Option<String>,
    /// `true` if it was let go of before its end.
    not_complete: bool,
}

/// A call under way. If it is dropped, its caller was killed, or has let go of it.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) id: u64,
    record: Record,
    begin: Instant,
    timeout: Option<Duration>,
    what: &'static str,
    /// The time for which its caller did something else.
    paused: Duration,
}

/// The time by which timers may be late: they are rounded up to milliseconds, one after the other.
const SLACK: Duration = Duration::from_millis(10);

impl Record {
    pub(super) fn new(ledger: Ledger, cluster: Cluster) -> Self {
        Self { state: Arc::default(), ledger, cluster }
    }

    pub(super) fn begin(&self, what: &'static str, client: usize, most: u32) -> OpenCall {
        let mut state = self.lock();
        state.last_id += 1;
        let id = state.last_id;
        state.open.insert(id, format!("{what} of client {client}"));
        *state.counts.entry(what).or_default() += 1;
        state.expected.insert(id, Expected { client, what, most, ..Expected::default() });
        drop(state);
        self.cluster.note(format!("call {id} begins: {what} of client {client}"));
        OpenCall {
            id,
            record: self.clone(),
            begin: Instant::now(),
            timeout: None,
            what,
            paused: Duration::ZERO,
        }
    }

    pub(super) fn count(&self, what: &'static str) {
        *self.lock().counts.entry(what).or_default() += 1;
    }

    pub(super) fn jumped(&self, by: Duration) {
        self.lock().jumps.push((Instant::now(), by));
    }

    pub(super) fn find(&self, finding: String) {
        self.cluster.note(&finding);
        self.lock().findings.push(finding);
    }

    pub(super) fn findings(&self) -> Vec<String> {
        let mut findings = self.lock().findings.clone();
        findings.extend(self.ledger.faults());
        findings
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    pub(super) fn open(&self) -> Vec<String> {
        self.lock().open.iter().map(|(id, what)| format!("{id} ({what})")).collect()
    }

    /// Compares what was expected of all calls with what handlers did, once none of them can begin any more. Returns the
    /// handlers that began for calls of each client beyond their first.
    pub(super) fn settle(&self) -> BTreeMap<usize, u64> {
        let (mut repeats, mut findings) = (BTreeMap::new(), Vec::new());
        for (id, expected) in &self.lock().expected {
            let entry = self.ledger.entry(*id);
            if !expected.is_repeated {
                *repeats.entry(expected.client).or_default() += u64::from(entry.begun.saturating_sub(1));
            }
            if entry.begun > expected.most {
                findings.push(format!(
                    "call {id} ({}): {} handlers have begun, of at most {}",
                    expected.what, entry.begun, expected.most
                ));
            }
            if let Some(error) = expected.not_begun.as_ref().filter(|_| entry.begun > 0) {
                findings.push(format!(
                    "call {id} ({}): a handler has begun, though the error is: {error}",
                    expected.what
                ));
            }
            if expected.not_complete && entry.complete.is_some() {
                findings
                    .push(format!("call {id}: its handler took a stream that was let go of for complete"));
            }
        }
        self.lock().findings.extend(findings);
        repeats
    }

    pub(super) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenCall {
    /// Notes the time limit, which is checked at the end.
    pub(super) const fn limit(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
    }

    /// Waits, as a caller does that has something else to do.
    pub(super) async fn pause(&mut self, time: Duration) {
        self.paused += time + SLACK;
        sleep(time).await;
    }

    pub(super) fn find(&self, finding: impl fmt::Display) {
        let ran = self.record.ledger.entry(self.id);
        self.record.find(format!("call {} ({}): {finding} ({ran:?})", self.id, self.what));
    }

    /// Ends with a result, which says of which call it is.
    pub(super) fn succeeded(self, result_of: u64) {
        self.record.count("succeeded");
        if result_of != self.id {
            self.find(format_args!("it got the answer of call {result_of}"));
        }
        if self.record.ledger.entry(self.id).begun == 0 {
            self.find("it succeeded, though no handler has begun");
        }
        self.ended(&"success");
    }

    /// Ends a stream with an error.
    pub(super) fn stream_failed<E>(self, error: &CallError<E>) {
        match error.rpc() {
            Some(error) => self.failed(error),
            None => self.find("a stream failed with an error that its method does not have"),
        }
    }

    /// Ends with an error of farcall's.
    pub(super) fn failed(self, error: &RpcError) {
        self.record.count(error.execution().name());
        let begun = self.record.ledger.entry(self.id).begun;
        match error.execution() {
            Execution::NotSent | Execution::Refused => {
                self.expect(|expected| expected.not_begun = Some(error.to_string()));
            }
            Execution::Done if begun == 0 => {
                self.find(format_args!("no handler has begun, though the error is: {error}"));
            }
            _ => {}
        }
        if matches!(error.code(), Code::InvalidArgument | Code::Unimplemented | Code::Unauthenticated) {
            self.find(format_args!("an error that nothing here causes: {error}"));
        }
        self.ended(error);
    }

    /// Notes that no handler may take its items for complete.
    pub(super) fn let_go(self) {
        self.expect(|expected| expected.not_complete = true);
    }

    /// Notes that it is repeated otherwise than by retries.
    pub(super) fn is_repeated(&self) {
        self.expect(|expected| expected.is_repeated = true);
    }

    fn expect(&self, change: impl FnOnce(&mut Expected)) {
        change(self.record.lock().expected.entry(self.id).or_default());
    }

    /// Checks what holds of every call that has ended.
    fn ended(&self, outcome: &dyn fmt::Display) {
        let took = self.begin.elapsed();
        if let Some(timeout) = self.timeout {
            let jumped: Duration = {
                let state = self.record.lock();
                state.jumps.iter().filter(|(at, _)| *at >= self.begin).map(|(_, by)| *by).sum()
            };
            if took > timeout + jumped + self.paused + SLACK {
                self.find(format_args!("it ended after {took:?}, with a timeout of {timeout:?}: {outcome}"));
            }
        }
    }
}

/// Every call ends: by an outcome, or with its caller.
impl Drop for OpenCall {
    fn drop(&mut self) {
        self.record.lock().open.remove(&self.id);
    }
}
