//! The last calls that failed, and that took long, for whoever looks at the server.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use farcall_context::{ConnectionInfo, Identity};
use farcall_protocol::{Code, Status, truncate};

use crate::observe::overview::EndedCall;

/// How many calls of each kind are kept.
const MOST: usize = 50;
/// What is kept of a name and of a message, in bytes.
const MOST_TEXT: usize = 200;

/// The last calls that failed, and the last of the others that took long.
#[derive(Debug)]
pub(crate) struct Recent {
    slow_from: Duration,
    slow: Ring,
    failed: Ring,
}

impl Recent {
    pub(crate) const fn new(slow_from: Duration) -> Self {
        Self { slow_from, slow: Ring::new(), failed: Ring::new() }
    }

    /// Keeps a call that has ended, if it is worth it. Most are not, and cost a comparison.
    #[inline]
    pub(crate) fn ended(
        &self,
        method: &str,
        from: &Arc<ConnectionInfo>,
        took: Duration,
        status: Option<&Status>,
    ) {
        let ring = match status {
            Some(_) => &self.failed,
            None if took >= self.slow_from => &self.slow,
            None => return,
        };
        ring.push(|| Ended {
            method: truncate(method, MOST_TEXT).into(),
            at: SystemTime::now(),
            took,
            error: status.map(|status| (status.code, truncate(&status.message, MOST_TEXT).into())),
            from: Arc::clone(from),
        });
    }

    /// The last ones that took long, the latest first.
    pub(crate) fn slow(&self) -> Vec<EndedCall> {
        self.slow.list()
    }

    /// The last ones that failed, the latest first.
    pub(crate) fn failed(&self) -> Vec<EndedCall> {
        self.failed.list()
    }
}

/// The last few calls of a kind.
#[derive(Debug)]
struct Ring(Mutex<VecDeque<Ended>>);

impl Ring {
    const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// Where many fail at once on several threads, not each of them is worth waiting for.
    fn push(&self, ended: impl FnOnce() -> Ended) {
        let Ok(mut kept) = self.0.try_lock() else { return };
        if kept.len() == MOST {
            kept.pop_back();
        }
        kept.push_front(ended());
    }

    fn list(&self) -> Vec<EndedCall> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(Ended::show).collect()
    }
}

/// A call that has ended.
#[derive(Debug)]
struct Ended {
    method: Box<str>,
    at: SystemTime,
    took: Duration,
    error: Option<(Code, Box<str>)>,
    from: Arc<ConnectionInfo>,
}

impl Ended {
    fn show(&self) -> EndedCall {
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
        let recent = Recent::new(Duration::from_millis(100));
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
    fn the_oldest_make_room_and_texts_are_cut() {
        let recent = Recent::new(Duration::ZERO);
        for n in 0..MOST + 7 {
            recent.ended(&format!("{n}{}", "x".repeat(9_000)), &peer(), Duration::ZERO, None);
        }
        let slow = recent.slow();
        assert_eq!(slow.len(), MOST);
        assert!(slow[0].method.starts_with("56x") && slow[MOST - 1].method.starts_with("7x"));
        assert_eq!(slow[0].method.len(), MOST_TEXT);
    }
}
