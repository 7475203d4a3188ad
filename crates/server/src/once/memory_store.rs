//! [`MemoryDedupStore`]: the keys and answers in the memory of one process.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farcall_protocol::time::later;
use farcall_protocol::{BoxError, Code, Status};
use farcall_transport::HumanDuration;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use tokio::time::Instant;

use super::answer::encode;
use super::once_call::{OnceCall, OnceKey};
use super::store::{Claim, DedupStore};
use crate::service::handler::Response;

/// The size of a call without its key, answer and arguments, in bytes: about that of its entries in the tables, or of an
/// answer that says that the real one was not kept.
const CALL_BYTES: usize = 512;

/// The keys and answers in the memory of one process: of one server, or of those that are given the same store.
///
/// They are gone with the process. Its name is chosen by chance, so that clients notice that, and do not repeat a call that
/// the process before may have carried out.
pub struct MemoryDedupStore {
    name: String,
    max_bytes: usize,
    max_answer_bytes: usize,
    retention: Duration,
    // A std mutex: it is held for a few lookups, and never across an await. No code panics under it.
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    // With the standard hasher, which has a secret: peers choose the keys.
    calls: HashMap<Arc<OnceKey>, Entry>,
    /// The calls that have ended, the first to be forgotten in front.
    ended: VecDeque<(Instant, Arc<OnceKey>)>,
    bytes: usize,
    /// The bytes of each caller.
    shares: HashMap<Arc<str>, usize>,
}

struct Entry {
    fingerprint: u128,
    owner: Arc<str>,
    bytes: usize,
    /// `None` while the call runs.
    answer: Option<Box<[u8]>>,
}

impl MemoryDedupStore {
    /// Creates an empty store with these limits, which are those of [`OnceOptions`](crate::OnceOptions).
    #[must_use]
    pub fn new(max_bytes: usize, max_answer_bytes: usize, retention: Duration) -> Self {
        let name = format!("{:016x}", fastrand::u64(..));
        Self { name, max_bytes, max_answer_bytes, retention, kept: Mutex::default() }
    }

    /// Returns the number of calls that run, or whose answers are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut kept = self.kept();
        kept.expire(Instant::now());
        kept.calls.len()
    }

    /// Returns `true` if no call runs, and no answer is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the memory that calls and their answers take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let mut kept = self.kept();
        kept.expire(Instant::now());
        kept.bytes
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no code panics under the lock")
    }

    fn try_claim(&self, call: &OnceCall) -> Result<Claim, Status> {
        let mut kept = self.kept();
        kept.expire(Instant::now());
        if let Some(entry) = kept.calls.get(call.place()) {
            return Ok(match &entry.answer {
                _ if entry.fingerprint != call.fingerprint() => Claim::OtherArguments,
                Some(answer) => Claim::Answered(answer.to_vec()),
                None => Claim::Running,
            });
        }
        let bytes = CALL_BYTES + call.place().bytes() + call.argument_bytes;
        self.check_room(&kept, &call.owner, bytes).map_err(|full| {
            let kept_for = HumanDuration(self.retention);
            let message = format!("{full}; an answer is kept for {kept_for} (`OnceOptions::retention`)");
            Status::refused(Code::ResourceExhausted, message)
        })?;
        kept.grow(&call.owner, bytes);
        let (fingerprint, owner) = (call.fingerprint(), Arc::clone(&call.owner));
        kept.calls.insert(Arc::clone(call.place()), Entry { fingerprint, owner, bytes, answer: None });
        Ok(Claim::Granted)
    }

    /// Checks that there is room for `bytes` more of a caller.
    ///
    /// # Errors
    ///
    /// The limit that would be exceeded, in words.
    fn check_room(&self, kept: &Kept, owner: &Arc<str>, bytes: usize) -> Result<(), String> {
        let max = self.max_bytes;
        if kept.bytes.saturating_add(bytes) > max {
            return Err(format!(
                "the store of calls that are carried out once is full: {max} bytes (`OnceOptions::max_bytes`)"
            ));
        }
        let share = kept.shares.get(owner).copied().unwrap_or_default();
        if share.saturating_add(bytes) > max / 2 {
            return Err(format!(
                "this caller's half of the store of calls that are carried out once is full: {} bytes (half of \
                 `OnceOptions::max_bytes`)",
                max / 2
            ));
        }
        Ok(())
    }

    fn keep_answer(&self, call: &OnceCall, answer: Vec<u8>) {
        let mut kept = self.kept();
        let Some(entry) = kept.calls.get(call.place()).filter(|entry| entry.answer.is_none()) else { return };
        let (before, owner) = (entry.bytes, Arc::clone(&entry.owner));
        kept.shrink(&owner, before);
        let mut bytes = CALL_BYTES + call.place().bytes() + answer.len();
        let why = if answer.len() > self.max_answer_bytes {
            Some(format!("more than {} (`OnceOptions::max_answer_bytes`)", self.max_answer_bytes))
        } else {
            self.check_room(&kept, &owner, bytes).err()
        };
        let answer = match why {
            None => answer,
            Some(why) => {
                bytes -= answer.len();
                let message = format!(
                    "`{}` was carried out, and its answer of {} bytes was not kept: {why}",
                    call.method(),
                    answer.len()
                );
                encode(&Response::error(Status::done(Code::ResourceExhausted, message)))
            }
        };
        kept.grow(&owner, bytes);
        if let Some(entry) = kept.calls.get_mut(call.place()) {
            entry.bytes = bytes;
            entry.answer = Some(answer.into_boxed_slice());
        }
        kept.ended.push_back((later(Instant::now(), self.retention), Arc::clone(call.place())));
    }
}

impl DedupStore for MemoryDedupStore {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn claim<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<Claim, Status>> {
        ready(self.try_claim(call)).boxed()
    }

    fn keep<'a>(&'a self, call: &'a OnceCall, answer: Vec<u8>) -> BoxFuture<'a, Result<(), BoxError>> {
        self.keep_answer(call, answer);
        ready(Ok(())).boxed()
    }

    fn release<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<(), BoxError>> {
        let mut kept = self.kept();
        if kept.calls.get(call.place()).is_some_and(|entry| entry.answer.is_none()) {
            kept.forget(call.place());
        }
        ready(Ok(())).boxed()
    }
}

impl Kept {
    /// Forgets the calls whose time is up.
    fn expire(&mut self, now: Instant) {
        while self.ended.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, key)) = self.ended.pop_front() {
                self.forget(&key);
            }
        }
    }

    fn forget(&mut self, key: &Arc<OnceKey>) {
        if let Some(entry) = self.calls.remove(key) {
            self.shrink(&entry.owner, entry.bytes);
        }
    }

    fn grow(&mut self, owner: &Arc<str>, bytes: usize) {
        self.bytes += bytes;
        *self.shares.entry(Arc::clone(owner)).or_default() += bytes;
    }

    fn shrink(&mut self, owner: &Arc<str>, bytes: usize) {
        self.bytes -= bytes;
        if let Some(share) = self.shares.get_mut(owner) {
            *share -= bytes;
            if *share == 0 {
                self.shares.remove(owner);
            }
        }
    }
}

impl fmt::Debug for MemoryDedupStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDedupStore").field("name", &self.name).finish_non_exhaustive()
    }
}
