//! The calls in flight on one connection: their bookkeeping, without I/O and without a clock.
//!
//! A ring of slots, indexed by the low bits of a call's number; numbers whose slot is taken are
//! skipped, which the protocol allows. A slot keeps its call's whole number, so that a late reply
//! cannot reach another call.

use std::task::{Poll, Waker};

use bytes::Bytes;
use farcall_protocol::{Execution, Flags, Header, Message, Metadata, Seq, Status};
use farcall_runtime::time::Instant;

use super::request::LARGE_REQUEST;

/// Reasons why a call ended without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionLoss {
    /// The deadline passed; `written` is `true` if the whole request was written by then.
    Deadline { written: bool },
    /// The connection ended.
    Closed(Execution),
    /// The server sent a goaway, and will not start the call.
    Goaway,
    /// An item of a streaming call has waited for credit too long.
    Stalled,
}

/// The parts of a reply that its caller needs: much smaller than a [`Message`], since it is moved often.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReplyParts {
    pub(super) body: Bytes,
    /// `None` if the reply is a result and nothing else, as most replies are.
    pub(super) head: Option<Box<ReplyHead>>,
}

/// The parts of a reply that most replies have not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReplyHead {
    pub(super) error: Option<Box<Status>>,
    pub(super) metadata: Option<Box<Metadata>>,
    pub(super) flags: Flags,
}

/// The outcome of a call in flight.
pub(super) type Outcome = Result<ReplyParts, ConnectionLoss>;

/// The calls in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The ring, whose length is a power of two. At most as many slots are taken as the server allows calls in
    /// flight, plus those whose callers have not taken their outcome yet.
    slots: Vec<Slot>,
    taken: usize,
    /// Calls that the server has not finished.
    unanswered: usize,
    /// The bytes of those of their requests that are large.
    large_bytes: u64,
    last: u64,
    /// A lower bound of all deadlines.
    earliest: Option<Instant>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The call's number; 0 in a free slot, which has no waiter and no deadline.
    seq: u64,
    waiter: Waiter,
    /// `true` if the server has finished the call, so that its slot there is free.
    answered: bool,
    deadline: Option<Instant>,
    /// The positions of the request's begin and end in the outgoing stream, in bytes.
    span: (u64, u64),
}

/// The caller of a call.
#[derive(Debug, Default)]
enum Waiter {
    /// Not waiting: it dropped the call, or took the outcome.
    #[default]
    Gone,
    Waiting(Option<Waker>),
    /// The outcome waits for the caller.
    Completed(Outcome),
}

/// The result of abandoning a call. Drop it outside of any lock: the last clone of a waker may drop a task and
/// everything that the task owns.
#[derive(Debug, Default)]
pub(super) struct Abandoned {
    /// `true` if the server still works on the call, so that it has to be cancelled there.
    pub(super) cancel: bool,
    /// The end of its request in the outgoing stream.
    pub(super) request_end: u64,
    _waiter: Waiter,
}

/// The initial number of slots: most connections of a large fleet carry few calls at a time, and a slot takes 96 bytes.
const FIRST_SLOTS: usize = 8;

impl InFlight {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), taken: 0, unanswered: 0, large_bytes: 0, last: 0, earliest: None }
    }

    /// Creates bookkeeping whose numbers continue after `last`.
    #[cfg(test)]
    pub(super) fn behind(last: Seq) -> Self {
        Self { last: last.0, ..Self::new() }
    }

    /// Returns the number of the next call, which is in flight only after [`InFlight::insert`].
    pub(super) fn next_seq(&mut self) -> Seq {
        if self.taken * 2 >= self.slots.len() {
            self.grow();
        }
        let mut seq = self.last + 1;
        while self.slots[self.index(seq)].seq != 0 {
            seq += 1;
        }
        Seq(seq)
    }

    /// Returns a number for a request that is not answered.
    pub(super) fn skip_seq(&mut self) -> Seq {
        self.last += 1;
        Seq(self.last)
    }

    /// Inserts a call under the number that [`InFlight::next_seq`] returned; its reply wakes `waker`, if the caller
    /// waits already. Returns `true` if its deadline is before all others.
    pub(super) fn insert(
        &mut self,
        seq: Seq,
        deadline: Option<Instant>,
        span: (u64, u64),
        waker: Option<Waker>,
    ) -> bool {
        let index = self.index(seq.0);
        let slot = &mut self.slots[index];
        debug_assert!(seq.0 > self.last && slot.seq == 0, "next_seq gives free numbers");
        slot.seq = seq.0;
        slot.waiter = Waiter::Waiting(waker);
        slot.answered = false;
        slot.deadline = deadline;
        slot.span = span;
        self.last = seq.0;
        self.taken += 1;
        self.unanswered += 1;
        self.large_bytes += large_bytes(span);
        let Some(deadline) = deadline else { return false };
        let earlier = self.earliest.is_none_or(|earliest| deadline < earliest);
        if earlier {
            self.earliest = Some(deadline);
        }
        earlier
    }

    /// Returns the last number that was used.
    pub(super) const fn last(&self) -> Seq {
        Seq(self.last)
    }

    /// Returns the number of calls that the server has not finished.
    pub(super) const fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Returns the bytes of large requests that the server has not answered.
    pub(super) const fn large_bytes(&self) -> u64 {
        self.large_bytes
    }

    /// Returns a lower bound of all deadlines; `None` if there are none.
    pub(super) const fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// Takes the outcome of a call; registers `waker` if there is none yet.
    pub(super) fn poll(&mut self, seq: Seq, waker: &Waker) -> Poll<Outcome> {
        let index = self.index(seq.0);
        let slot = &mut self.slots[index];
        debug_assert_eq!(slot.seq, seq.0, "a slot belongs to its call until the outcome is taken");
        match &mut slot.waiter {
            Waiter::Waiting(Some(known)) if known.will_wake(waker) => {}
            Waiter::Waiting(known) => *known = Some(waker.clone()),
            waiter @ Waiter::Completed(_) => {
                let Waiter::Completed(outcome) = std::mem::take(waiter) else { unreachable!("just matched") };
                self.free_if_done(index);
                return Poll::Ready(outcome);
            }
            Waiter::Gone => {}
        }
        Poll::Pending
    }

    /// Completes a call with its reply. `None` if the call is not in flight; otherwise its slot at the server is free,
    /// and the waker has to be woken.
    #[cfg(test)]
    pub(super) fn complete(&mut self, mut message: Message) -> Option<Option<Waker>> {
        let index = self.find(message.header.seq.0)?;
        self.complete_at(index, ReplyParts::take_from(&mut message))
    }

    /// Completes the call that [`InFlight::find`] found, as [`InFlight::complete`] does.
    // A reply is large to be moved.
    #[inline(always)]
    pub(super) fn complete_at(&mut self, index: usize, reply: ReplyParts) -> Option<Option<Waker>> {
        let slot = &mut self.slots[index];
        if std::mem::replace(&mut slot.answered, true) {
            return None;
        }
        self.unanswered -= 1;
        self.large_bytes -= large_bytes(slot.span);
        let waker = slot.complete(Ok(reply));
        self.free_if_done(index);
        Some(waker)
    }

    /// Notes that the caller dropped the call.
    pub(super) fn abandon(&mut self, seq: Seq) -> Abandoned {
        let Some(index) = self.find(seq.0) else { return Abandoned::default() };
        let slot = &mut self.slots[index];
        slot.deadline = None;
        let waiter = std::mem::take(&mut slot.waiter);
        let cancel = !slot.answered && matches!(waiter, Waiter::Waiting(_));
        let request_end = slot.span.1;
        self.free_if_done(index);
        Abandoned { cancel, request_end, _waiter: waiter }
    }

    /// Ends the calls whose deadline is at or before `now`, and calls `expired` for each, with the end of its request
    /// in the outgoing stream: it has to be cancelled, and its caller woken. Its slot stays taken until the server answers. `written` is the length of the outgoing stream
    /// that was written.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        written: u64,
        mut expired: impl FnMut(Seq, u64, Option<Waker>),
    ) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        let mut earliest: Option<Instant> = None;
        for slot in &mut self.slots {
            let Some(deadline) = slot.deadline else { continue };
            if deadline <= now {
                slot.deadline = None;
                let waker = slot.complete(Err(ConnectionLoss::Deadline { written: written >= slot.span.1 }));
                expired(Seq(slot.seq), slot.span.1, waker);
            } else {
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
        }
        self.earliest = earliest;
    }

    /// Ends the calls above `last`, which the server will not start, and calls `ended` for each.
    pub(super) fn refuse_above(&mut self, last: Seq, mut ended: impl FnMut(Option<Waker>)) {
        self.end_where(|slot| (slot.seq > last.0).then_some(ConnectionLoss::Goaway), &mut ended);
    }

    /// Ends all calls, since the connection has ended after it had `written` this many bytes.
    pub(super) fn lose_all(&mut self, written: u64, mut ended: impl FnMut(Option<Waker>)) {
        let lost = |slot: &Slot| {
            let begun = slot.span.0 < written;
            Some(ConnectionLoss::Closed(if begun { Execution::Maybe } else { Execution::NotSent }))
        };
        self.end_where(lost, &mut ended);
    }

    /// Ends the calls for which `loss` returns a reason: the server does not work on them any more.
    fn end_where(
        &mut self,
        loss: impl Fn(&Slot) -> Option<ConnectionLoss>,
        ended: &mut impl FnMut(Option<Waker>),
    ) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if slot.seq == 0 || slot.answered {
                continue;
            }
            if let Some(loss) = loss(slot) {
                slot.answered = true;
                self.unanswered -= 1;
                self.large_bytes -= large_bytes(slot.span);
                ended(slot.complete(Err(loss)));
                self.free_if_done(index);
            }
        }
    }

    /// Releases the slots, if none is taken.
    pub(super) fn release_memory(&mut self) {
        if self.taken == 0 {
            self.slots = Vec::new();
        }
    }

    #[cfg(test)]
    pub(super) const fn holds_memory(&self) -> bool {
        self.slots.capacity() > 0
    }

    fn index(&self, seq: u64) -> usize {
        // The length is a power of two.
        seq as usize & (self.slots.len() - 1)
    }

    /// Returns the index of a call that is known.
    pub(super) fn find(&self, seq: u64) -> Option<usize> {
        if self.slots.is_empty() || seq == 0 {
            return None;
        }
        let index = self.index(seq);
        (self.slots[index].seq == seq).then_some(index)
    }

    fn free_if_done(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.answered && matches!(slot.waiter, Waiter::Gone) {
            debug_assert!(slot.deadline.is_none(), "an answered call has no deadline");
            slot.seq = 0;
            self.taken -= 1;
        }
    }

    /// Doubles the ring. Calls that had different slots in the smaller ring have different slots in the larger one.
    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(FIRST_SLOTS);
        let old = std::mem::take(&mut self.slots);
        self.slots.resize_with(len, Slot::default);
        for slot in old {
            if slot.seq != 0 {
                let index = self.index(slot.seq);
                self.slots[index] = slot;
            }
        }
    }
}

/// Returns the bytes of a request at this place in the outgoing stream, if it is large.
#[inline]
const fn large_bytes((begin, end): (u64, u64)) -> u64 {
    let bytes = end - begin;
    if bytes >= LARGE_REQUEST as u64 { bytes } else { 0 }
}

impl ReplyParts {
    /// Creates a reply that is a result.
    #[inline]
    pub(super) const fn from_body(body: Bytes) -> Self {
        Self { body, head: None }
    }

    /// Takes the parts out of a message.
    #[inline]
    pub(super) fn take_from(message: &mut Message) -> Self {
        let Message { header: Header { error, metadata, flags, .. }, body, .. } = message;
        let is_result = error.is_none() && metadata.is_none() && *flags == Flags::NONE;
        let head = (!is_result).then(|| ReplyHead::take_from(error, metadata, *flags));
        Self { body: std::mem::take(body), head }
    }
}

impl ReplyHead {
    #[cold]
    fn take_from(
        error: &mut Option<Box<Status>>,
        metadata: &mut Option<Box<Metadata>>,
        flags: Flags,
    ) -> Box<Self> {
        Box::new(Self { error: error.take(), metadata: metadata.take(), flags })
    }
}

#[cfg(test)]
impl From<Message> for ReplyParts {
    fn from(mut message: Message) -> Self {
        Self::take_from(&mut message)
    }
}

impl Slot {
    /// Stores an outcome, if the caller still waits for one.
    #[inline]
    fn complete(&mut self, outcome: Outcome) -> Option<Waker> {
        self.deadline = None;
        let Waiter::Waiting(waker) = &mut self.waiter else { return None };
        let waker = waker.take();
        self.waiter = Waiter::Completed(outcome);
        waker
    }
}

#[cfg(test)]
mod tests;
