//! [`RecentCalls`]: the last calls that failed, and the last that were slow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use farcall_context::{ConnectionInfo, Identity};
use farcall_protocol::{Code, Status, truncate};

use crate::observe::overview::EndedCall;

/// The number of calls that are kept of each kind.
const MAX_CALLS: usize = 50;
/// The length that names and messages are truncated to, in bytes.
const MAX_TEXT_BYTES: usize = 200;

/// The last calls that failed, and the last of the others that were slow.
#[derive(Debug)]
pub(crate) struct RecentCalls {
    /// `None` if no call counts as slow.
    min_slow: Option<Duration>,
    slow: Ring,
    failed: Ring,
}

impl RecentCalls {
    pub(crate) const fn new(min_slow: Option<Duration>) -> Self {
        Self { min_slow, slow: Ring::new(), failed: Ring::new() }
    }

    /// Keeps a call that has ended if it failed or was slow. Others cost a comparison.
    #[inline]
    pub(crate) fn ended(
        &self,
        method: &str,
        from: &Arc<ConnectionInfo>,
        took: Duration,
        status: Option<&Status>,
    ) {
        let is_slow = self.min_slow.is_some_and(|min| took >= min);
        if is_slow || status.is_some() {
            self.keep(method, from, took, status);
        }
    }

    #[cold]
    fn keep(&self, method: &str, from: &Arc<ConnectionInfo>, took: Duration, status: Option<&Status>) {
        let ring = if status.is_some() { &self.failed } else { &self.slow };
        ring.push(|| EndedEntry {
            method: truncate(method, MAX_TEXT_BYTES).into(),
            at: SystemTime::now(),
            took,
            error: status.map(|status| (status.code, truncate(&status.message, MAX_TEXT_BYTES).into())),
            from: Arc::clone(from),
        });
    }

    /// Returns the last slow calls, the latest first.
    pub(crate) fn slow(&self) -> Vec<EndedCall> {
        self.slow.list()
    }

    /// Returns the last failed calls, the latest first.
    pub(crate) fn failed(&self) -> Vec<EndedCall> {
        self.failed.list()
    }
}

/// The last calls of a kind, at most [`MAX_CALLS`].
#[derive(Debug)]
struct Ring(Mutex<VecDeque<EndedEntry>>);

impl Ring {
    const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// Adds a call, or drops it if the lock is taken: if many calls fail at once, not each is worth
    /// waiting for.
    fn push(&self, ended: impl FnOnce() -> EndedEntry) {
        let Ok(mut calls) = self.0.try_lock() else { return };
        if calls.len() == MAX_CALLS {
            calls.pop_back();
        }
        calls.push_front(ended());
    }

    fn list(&self) -> Vec<EndedCall> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().map(EndedEntry::to_overview).collect()
    }
}

/// A call that has ended.
#[derive(Debug)]
struct EndedEntry {
    method: Box<str>,
    at: SystemTime,
    took: Duration,
    error: Option<(Code, Box<str>)>,
    from: Arc<ConnectionInfo>,
}

impl EndedEntry {
    fn to_overview(&self) -> EndedCall {
        let since_1970 = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        EndedCall {
            method: self.method.to_string(),
            ended_unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            took_us: u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
            code: self.error.as_ref().map(|(code, _)| code.name()),
            message: self.error.as_ref().map(|(_, message)| message.to_string()),
            peer: self.from.peer.clone(),
            caller: self.from.identity.as_ref().map(Identity::name).map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Arc<ConnectionInfo> {
        Arc::new(ConnectionInfo::new(1, "tcp@127.0.0.1:9"))
    }

    #[test]
    fn only_failed_and_slow_calls_are_kept() {
        let recent = RecentCalls::new(Some(Duration::from_millis(100)));
        recent.ended("A.quick", &peer(), Duration::from_millis(99), None);
        recent.ended("A.slow", &peer(), Duration::from_millis(100), None);
        let status = Status::done(Code::Internal, "it broke");
        recent.ended("A.broken", &peer(), Duration::from_secs(1), Some(&status));
        let [slow] = &recent.slow()[..] else { panic!("one was slow") };
        assert_eq!((&*slow.method, slow.took_us, slow.code), ("A.slow", 100_000, None));
        let [failed] = &recent.failed()[..] else { panic!("one failed") };
        assert_eq!((&*failed.method, failed.code), ("A.broken", Some("internal")));
        assert_eq!((failed.message.as_deref(), &*failed.peer), (Some("it broke"), "tcp@127.0.0.1:9"));
    }

    #[test]
    fn oldest_calls_are_dropped_and_texts_truncated() {
        let recent = RecentCalls::new(Some(Duration::ZERO));
        for n in 0..MAX_CALLS + 7 {
            recent.ended(&format!("{n}{}", "x".repeat(9_000)), &peer(), Duration::ZERO, None);
        }
        let slow = recent.slow();
        assert_eq!(slow.len(), MAX_CALLS);
        assert!(slow[0].method.starts_with("56x") && slow[MAX_CALLS - 1].method.starts_with("7x"));
        assert_eq!(slow[0].method.len(), MAX_TEXT_BYTES);
    }
}
