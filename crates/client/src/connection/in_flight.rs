//! The calls of one connection that wait for an answer: all bookkeeping of them, and nothing else.
//!
//! A ring of slots, found by the low bits of a call's number; numbers whose slot is taken are
//! skipped, which the protocol allows. A slot keeps its call's whole number, so that a late answer
//! cannot reach another call. There is no I/O and no clock here.

use std::task::{Poll, Waker};

use bytes::Bytes;
use farcall_protocol::{Execution, Flags, Message, Metadata, Seq, Status};
use tokio::time::Instant;

/// How a call ended that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Its deadline passed. `written` tells whether all of the request had left by then.
    Deadline { written: bool },
    /// The connection ended.
    Connection(Execution),
    /// The server said goaway, and will not start it.
    Goaway,
}

/// What of a response its caller has to know: half of a [`Message`], which is moved often.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) error: Option<Box<Status>>,
    pub(crate) metadata: Option<Box<Metadata>>,
    pub(crate) flags: Flags,
    pub(crate) body: Bytes,
}

/// What a caller gets.
pub(crate) type Outcome = Result<Reply, Lost>;

/// The calls in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// A power of two of them. At most as many are taken as the server allows in flight, plus
    /// those whose callers have not fetched their outcome yet.
    slots: Vec<Slot>,
    taken: usize,
    /// Calls that the server is not done with.
    unanswered: usize,
    last: u64,
    /// No deadline is before this; there may be none at it any more.
    earliest: Option<Instant>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The call's number; 0 in a free slot, whose other fields say nothing but that nobody waits and
    /// that there is no deadline.
    seq: u64,
    caller: Caller,
    /// Whether the server is done with the call, so that its place there is free.
    answered: bool,
    deadline: Option<Instant>,
    /// Where the request begins and ends in the outgoing stream, in bytes.
    span: (u64, u64),
}

#[derive(Debug, Default)]
enum Caller {
    /// Nobody waits.
    #[default]
    Gone,
    Waiting(Option<Waker>),
    Told(Outcome),
}

/// What became of a call whose caller has gone. To be dropped outside of any lock: the last clone
/// of a waker may drop a task, and what that holds.
#[derive(Debug, Default)]
pub(crate) struct Abandoned {
    /// Whether the server is to be told: it works on the call, and does not know yet.
    pub(crate) tell_server: bool,
    _caller: Caller,
}

const FIRST_SLOTS: usize = 64;

impl InFlight {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), taken: 0, unanswered: 0, last: 0, earliest: None }
    }

    /// One whose numbers go on behind `last`.
    #[cfg(test)]
    pub(crate) fn behind(last: Seq) -> Self {
        Self { last: last.0, ..Self::new() }
    }

    /// The number that the next call gets. The call is not in flight before [`InFlight::insert`].
    pub(crate) fn next_seq(&mut self) -> Seq {
        if self.taken * 2 >= self.slots.len() {
            self.grow();
        }
        let mut seq = self.last + 1;
        while self.slots[self.index(seq)].seq != 0 {
            seq += 1;
        }
        Seq(seq)
    }

    /// A number for a request that nobody waits for.
    pub(crate) fn skip_seq(&mut self) -> Seq {
        self.last += 1;
        Seq(self.last)
    }

    /// Takes a call in under the number that [`InFlight::next_seq`] gave; `waker` is whom to wake, if
    /// that is known already. Whether its deadline is before what [`InFlight::earliest`] said until now.
    pub(crate) fn insert(
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
        slot.caller = Caller::Waiting(waker);
        slot.answered = false;
        slot.deadline = deadline;
        slot.span = span;
        self.last = seq.0;
        self.taken += 1;
        self.unanswered += 1;
        let Some(deadline) = deadline else { return false };
        let earlier = self.earliest.is_none_or(|earliest| deadline < earliest);
        if earlier {
            self.earliest = Some(deadline);
        }
        earlier
    }

    /// The last number that was given out.
    pub(crate) const fn last(&self) -> Seq {
        Seq(self.last)
    }

    /// Calls that the server is not done with.
    pub(crate) const fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// No deadline is before this.
    pub(crate) const fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// Asks for the outcome of a call; remembers whom to wake if there is none yet.
    pub(crate) fn poll(&mut self, seq: Seq, waker: &Waker) -> Poll<Outcome> {
        let index = self.index(seq.0);
        let slot = &mut self.slots[index];
        debug_assert_eq!(slot.seq, seq.0, "a slot stays its call's until the outcome is fetched");
        match &mut slot.caller {
            Caller::Waiting(Some(known)) if known.will_wake(waker) => {}
            Caller::Waiting(known) => *known = Some(waker.clone()),
            caller @ Caller::Told(_) => {
                let Caller::Told(outcome) = std::mem::take(caller) else { unreachable!("just matched") };
                self.free_if_done(index);
                return Poll::Ready(outcome);
            }
            Caller::Gone => {}
        }
        Poll::Pending
    }

    /// Takes an answer. `None` where the call is not in flight; else its place at the server has
    /// come free, and whoever waits is to be woken.
    pub(crate) fn answer(&mut self, message: Message) -> Option<Option<Waker>> {
        let seq = message.header.seq.0;
        let index = self.find(seq)?;
        let slot = &mut self.slots[index];
        if std::mem::replace(&mut slot.answered, true) {
            return None;
        }
        self.unanswered -= 1;
        let waker = slot.tell(Ok(Reply::from(message)));
        self.free_if_done(index);
        Some(waker)
    }

    /// The caller has gone.
    pub(crate) fn abandon(&mut self, seq: Seq) -> Abandoned {
        let Some(index) = self.find(seq.0) else { return Abandoned::default() };
        let slot = &mut self.slots[index];
        slot.deadline = None;
        let caller = std::mem::take(&mut slot.caller);
        let tell_server = !slot.answered && matches!(caller, Caller::Waiting(_));
        self.free_if_done(index);
        Abandoned { tell_server, _caller: caller }
    }

    /// Ends the calls whose deadline is at or before `now`: they are to be cancelled, and their
    /// callers woken. Their places stay taken until the server answers. `written` is how far the
    /// outgoing stream has got.
    pub(crate) fn expire(&mut self, now: Instant, written: u64, mut expired: impl FnMut(Seq, Option<Waker>)) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        let mut earliest: Option<Instant> = None;
        for slot in &mut self.slots {
            let Some(deadline) = slot.deadline else { continue };
            if deadline <= now {
                slot.deadline = None;
                let waker = slot.tell(Err(Lost::Deadline { written: written >= slot.span.1 }));
                expired(Seq(slot.seq), waker);
            } else {
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
        }
        self.earliest = earliest;
    }

    /// The server will start no call above `last`: ends those. `ended` is called for each.
    pub(crate) fn refuse_above(&mut self, last: Seq, mut ended: impl FnMut(Option<Waker>)) {
        self.end_where(|slot| (slot.seq > last.0).then_some(Lost::Goaway), &mut ended);
    }

    /// The connection has ended, with so many bytes `written`: ends all calls.
    pub(crate) fn lose_all(&mut self, written: u64, mut ended: impl FnMut(Option<Waker>)) {
        let lost = |slot: &Slot| {
            let begun = slot.span.0 < written;
            Some(Lost::Connection(if begun { Execution::Maybe } else { Execution::NotSent }))
        };
        self.end_where(lost, &mut ended);
    }

    /// Ends the calls for which `how` says so: the server is done with them.
    fn end_where(&mut self, how: impl Fn(&Slot) -> Option<Lost>, ended: &mut impl FnMut(Option<Waker>)) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if slot.seq == 0 || slot.answered {
                continue;
            }
            if let Some(lost) = how(slot) {
                slot.answered = true;
                self.unanswered -= 1;
                ended(slot.tell(Err(lost)));
                self.free_if_done(index);
            }
        }
    }

    fn index(&self, seq: u64) -> usize {
        // The length is a power of two.
        seq as usize & (self.slots.len() - 1)
    }

    fn find(&self, seq: u64) -> Option<usize> {
        if self.slots.is_empty() || seq == 0 {
            return None;
        }
        let index = self.index(seq);
        (self.slots[index].seq == seq).then_some(index)
    }

    fn free_if_done(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.answered && matches!(slot.caller, Caller::Gone) {
            debug_assert!(slot.deadline.is_none(), "what was answered has none");
            slot.seq = 0;
            self.taken -= 1;
        }
    }

    /// Doubles the ring. What had slots of its own in the smaller one has so in the larger.
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

impl From<Message> for Reply {
    fn from(Message { header, body }: Message) -> Self {
        Self { error: header.error, metadata: header.metadata, flags: header.flags, body }
    }
}

impl Slot {
    /// Leaves an outcome for the caller, if one still waits.
    fn tell(&mut self, outcome: Outcome) -> Option<Waker> {
        self.deadline = None;
        match std::mem::take(&mut self.caller) {
            Caller::Waiting(waker) => {
                self.caller = Caller::Told(outcome);
                waker
            }
            other => {
                self.caller = other;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
