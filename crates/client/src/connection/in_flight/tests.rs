//! Tests of the calls in flight: each rule, and all rules against a simple model.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use bytes::Bytes;
use farcall_protocol::{Code, Flags, Header, Kind};
use proptest::prelude::*;

use super::*;

fn response(seq: Seq, body: u64) -> Message {
    let header = Header {
        kind: Kind::Response,
        seq,
        service_method: Default::default(),
        timeout_ms: 0,
        error: None,
        metadata: None,
        flags: Flags::NONE,
    };
    Message::new(header, Bytes::copy_from_slice(&body.to_be_bytes()))
}

fn poll(calls: &mut InFlight, seq: Seq) -> Poll<Outcome> {
    calls.poll(seq, Waker::noop())
}

fn begin(calls: &mut InFlight) -> Seq {
    let seq = calls.next_seq();
    calls.insert(seq, None, (0, 0), None);
    seq
}

#[test]
fn large_requests_count_until_they_are_answered_or_lost() {
    let large = LARGE_REQUEST as u64;
    let mut calls = InFlight::new();
    let mut at = 0;
    let seqs = [large - 1, large, 3 * large, large + 7].map(|bytes| {
        let seq = calls.next_seq();
        calls.insert(seq, None, (at, at + bytes), None);
        at += bytes;
        seq
    });
    assert_eq!(calls.large_bytes(), 5 * large + 7);
    assert!(calls.complete(response(seqs[0], 7)).is_some());
    assert!(calls.complete(response(seqs[1], 7)).is_some());
    assert_eq!(calls.large_bytes(), 4 * large + 7);
    // The server still has a call whose caller has gone.
    assert!(calls.abandon(seqs[2]).cancel);
    calls.refuse_above(seqs[2], |_| {});
    assert_eq!(calls.large_bytes(), 3 * large);
    calls.lose_all(0, |_| {});
    assert_eq!(calls.large_bytes(), 0);
}

#[test]
fn reply_has_a_head_if_it_is_more_than_a_result() {
    assert_eq!(ReplyParts::from(response(Seq(1), 7)).head, None);
    let mut flagged = response(Seq(1), 7);
    flagged.header.flags = Flags::COMPRESSED;
    let mut described = response(Seq(1), 7);
    described.header.metadata = Some(Box::default());
    let mut failed = response(Seq(1), 7);
    failed.header.error = Some(Box::new(Status::done(Code::Internal, "broken")));
    for message in [flagged, described, failed] {
        let Header { error, metadata, flags, .. } = message.header.clone();
        let reply = ReplyParts::from(message);
        assert_eq!(reply.body, 7_u64.to_be_bytes()[..]);
        assert_eq!(reply.head.as_deref(), Some(&ReplyHead { error, metadata, flags }));
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn empty(calls: &InFlight) -> bool {
    calls.taken == 0 && calls.unanswered == 0 && calls.slots.iter().all(|slot| slot.seq == 0)
}

#[test]
fn reply_reaches_its_call_and_frees_its_slot() {
    let mut calls = InFlight::new();
    let seq = begin(&mut calls);
    assert!(poll(&mut calls, seq).is_pending());
    assert_eq!(calls.unanswered(), 1);
    assert!(calls.complete(response(seq, 7)).expect("it is in flight").is_some(), "a caller waits");
    assert_eq!((calls.unanswered(), calls.taken), (0, 1));
    assert_eq!(poll(&mut calls, seq), Poll::Ready(Ok(response(seq, 7).into())));
    assert!(empty(&calls));
}

#[test]
fn replies_to_unknown_calls_are_ignored() {
    let mut calls = InFlight::new();
    assert!(calls.complete(response(Seq(0), 0)).is_none());
    assert!(calls.complete(response(Seq(1), 0)).is_none());
    let seq = begin(&mut calls);
    for other in [0, seq.0 + 1, seq.0 + FIRST_SLOTS as u64, u64::MAX] {
        assert!(calls.complete(response(Seq(other), 0)).is_none());
    }
    assert!(poll(&mut calls, seq).is_pending());
}

#[test]
fn second_reply_to_a_call_is_ignored() {
    let mut calls = InFlight::new();
    let seq = begin(&mut calls);
    assert!(calls.complete(response(seq, 1)).is_some());
    assert!(calls.complete(response(seq, 2)).is_none());
    assert_eq!(poll(&mut calls, seq), Poll::Ready(Ok(response(seq, 1).into())));
    assert!(calls.complete(response(seq, 3)).is_none());
    assert!(empty(&calls));
}

#[test]
fn reply_wakes_the_last_registered_waker() {
    let mut calls = InFlight::new();
    let seq = begin(&mut calls);
    let (first, last) = (Arc::new(Count::default()), Arc::new(Count::default()));
    for waker in [&first, &first, &last] {
        assert!(calls.poll(seq, &Waker::from(Arc::clone(waker))).is_pending());
    }
    calls.complete(response(seq, 1)).flatten().expect("a caller waits").wake();
    assert_eq!((first.0.load(Ordering::Relaxed), last.0.load(Ordering::Relaxed)), (0, 1));
}

#[test]
fn reply_wakes_the_waker_given_with_the_call() {
    let mut calls = InFlight::new();
    let (first, last) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let waker = |count: &Arc<Count>| Waker::from(Arc::clone(count));
    let seqs = [(); 2].map(|()| {
        let seq = calls.next_seq();
        calls.insert(seq, None, (0, 0), Some(waker(&first)));
        seq
    });
    // Another waker replaces it.
    assert!(calls.poll(seqs[1], &waker(&last)).is_pending());
    for seq in seqs {
        calls.complete(response(seq, 1)).flatten().expect("a caller waits").wake();
    }
    assert_eq!((first.0.load(Ordering::Relaxed), last.0.load(Ordering::Relaxed)), (1, 1));
}

#[test]
fn abandoned_call_keeps_its_slot_until_the_reply() {
    let mut calls = InFlight::new();
    let seq = begin(&mut calls);
    assert!(calls.abandon(seq).cancel);
    assert_eq!((calls.unanswered(), calls.taken), (1, 1));
    assert_eq!(calls.complete(response(seq, 1)).map(|waker| waker.is_some()), Some(false));
    assert!(empty(&calls));
    assert!(!calls.abandon(seq).cancel, "it is not in flight");
}

#[test]
fn call_abandoned_after_its_reply_is_not_cancelled() {
    let mut calls = InFlight::new();
    let seq = begin(&mut calls);
    calls.complete(response(seq, 1));
    assert!(!calls.abandon(seq).cancel);
    assert!(empty(&calls));
}

#[test]
fn expired_call_keeps_its_slot_and_is_cancelled_once() {
    let mut calls = InFlight::new();
    let now = Instant::now();
    let seq = calls.next_seq();
    calls.insert(seq, Some(now), (0, 10), None);
    let mut expired = Vec::new();
    calls.expire(now, 9, |seq, _, _| expired.push(seq));
    calls.expire(now, 9, |seq, _, _| expired.push(seq));
    assert_eq!((expired, calls.earliest()), (vec![seq], None));
    assert!(!calls.abandon(seq).cancel, "it was cancelled already");
    assert_eq!(calls.unanswered(), 1);
    calls.complete(response(seq, 1));
    assert!(empty(&calls));
}

#[test]
fn deadline_loss_says_if_the_request_was_written() {
    let now = Instant::now();
    for (written, all) in [(0, false), (9, false), (10, true)] {
        let mut calls = InFlight::new();
        let seq = calls.next_seq();
        calls.insert(seq, Some(now), (5, 10), None);
        calls.expire(now, written, |_, _, _| ());
        assert_eq!(poll(&mut calls, seq), Poll::Ready(Err(ConnectionLoss::Deadline { written: all })));
    }
}

#[test]
fn connection_loss_says_if_a_byte_was_written() {
    for (written, execution) in [(5, Execution::NotSent), (6, Execution::Maybe), (99, Execution::Maybe)] {
        let mut calls = InFlight::new();
        let seq = calls.next_seq();
        calls.insert(seq, None, (5, 10), None);
        calls.lose_all(written, |_| ());
        assert_eq!(poll(&mut calls, seq), Poll::Ready(Err(ConnectionLoss::Closed(execution))));
        assert!(empty(&calls));
    }
}

#[test]
fn insert_reports_only_deadlines_before_all_others() {
    let mut calls = InFlight::new();
    let now = Instant::now();
    let mut insert = |after| {
        let seq = calls.next_seq();
        calls.insert(seq, Some(now + Duration::from_secs(after)), (0, 0), None)
    };
    assert_eq!([5, 6, 5, 4].map(&mut insert), [true, false, false, true]);
    assert_eq!(calls.earliest(), Some(now + Duration::from_secs(4)));
}

#[test]
fn ring_stays_small_while_few_calls_are_in_flight() {
    let mut calls = InFlight::new();
    // The slot of a call that is never answered is skipped.
    begin(&mut calls);
    for _ in 0..10_000 {
        let seq = begin(&mut calls);
        calls.complete(response(seq, 0));
        assert!(poll(&mut calls, seq).is_ready());
    }
    assert_eq!((calls.slots.len(), calls.taken), (FIRST_SLOTS, 1));
}

#[test]
fn growing_ring_keeps_all_calls() {
    let mut calls = InFlight::new();
    let seqs: Vec<_> = (0..10_000).map(|_| begin(&mut calls)).collect();
    for seq in seqs.iter().rev() {
        assert!(calls.complete(response(*seq, seq.0)).is_some());
    }
    for seq in seqs {
        assert_eq!(poll(&mut calls, seq), Poll::Ready(Ok(response(seq, seq.0).into())));
    }
    assert!(empty(&calls));
}

/// An event. Its index chooses among all calls so far.
#[derive(Clone, Debug)]
enum Event {
    Begin { deadline: Option<u64> },
    OneWay,
    Poll(usize),
    Abandon(usize),
    Answer(usize),
    Expire { at: u64 },
    Goaway { last: usize },
    Lose { written: u64 },
    Release,
}

fn event() -> impl Strategy<Value = Event> {
    let which = any::<usize>;
    prop_oneof![
        12 => proptest::option::of(0..50_u64).prop_map(|deadline| Event::Begin { deadline }),
        1 => Just(Event::OneWay),
        6 => which().prop_map(Event::Poll),
        4 => which().prop_map(Event::Abandon),
        8 => which().prop_map(Event::Answer),
        2 => (0..50_u64).prop_map(|at| Event::Expire { at }),
        1 => which().prop_map(|last| Event::Goaway { last }),
        1 => any::<u16>().prop_map(|written| Event::Lose { written: u64::from(written) % 2000 }),
        2 => Just(Event::Release),
    ]
}

/// The expected state of a call.
#[derive(Debug)]
struct Model {
    answered: bool,
    /// `true` while the caller waits, or has to take the outcome.
    caller: bool,
    outcome: Option<Outcome>,
    deadline: Option<u64>,
    span: (u64, u64),
}

impl Model {
    fn complete(&mut self, outcome: Outcome) {
        self.deadline = None;
        if self.caller && self.outcome.is_none() {
            self.outcome = Some(outcome);
        }
    }
}

proptest! {
    #[test]
    fn every_call_gets_its_outcome_as_in_the_model(events in proptest::collection::vec(event(), 0..400)) {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut calls = InFlight::new();
        let mut model: HashMap<u64, Model> = HashMap::new();
        let mut seqs: Vec<Seq> = Vec::new();
        let mut last = 0;
        for event in events {
            let pick = |which: usize| (!seqs.is_empty()).then(|| seqs[which % seqs.len()]);
            match event {
                Event::Begin { deadline } => {
                    let seq = calls.next_seq();
                    prop_assert!(seq.0 > last, "numbers grow");
                    last = seq.0;
                    let span = (last * 10, last * 10 + 10);
                    calls.insert(seq, deadline.map(at), span, None);
                    seqs.push(seq);
                    let call = Model { answered: false, caller: true, outcome: None, deadline, span };
                    model.insert(seq.0, call);
                }
                Event::OneWay => {
                    let seq = calls.skip_seq();
                    prop_assert!(seq.0 > last);
                    last = seq.0;
                }
                Event::Poll(which) => {
                    let Some(seq) = pick(which) else { continue };
                    let call = model.get_mut(&seq.0).unwrap();
                    if call.caller {
                        let expected = call.outcome.take();
                        call.caller = expected.is_none();
                        let expected = expected.map_or(Poll::Pending, Poll::Ready);
                        prop_assert_eq!(poll(&mut calls, seq), expected);
                    }
                }
                Event::Abandon(which) => {
                    let Some(seq) = pick(which) else { continue };
                    let call = model.get_mut(&seq.0).unwrap();
                    let cancel = call.caller && call.outcome.is_none() && !call.answered;
                    call.caller = false;
                    call.deadline = None;
                    prop_assert_eq!(calls.abandon(seq).cancel, cancel);
                }
                Event::Answer(which) => {
                    let Some(seq) = pick(which) else { continue };
                    let call = model.get_mut(&seq.0).unwrap();
                    let body = which as u64;
                    prop_assert_eq!(calls.complete(response(seq, body)).is_some(), !call.answered);
                    if !std::mem::replace(&mut call.answered, true) {
                        call.complete(Ok(response(seq, body).into()));
                    }
                }
                Event::Expire { at: now } => {
                    let mut expired = Vec::new();
                    calls.expire(at(now), last * 5, |seq, _, _| expired.push(seq.0));
                    let mut expected = Vec::new();
                    for (seq, call) in &mut model {
                        if call.deadline.is_some_and(|deadline| deadline <= now) {
                            expected.push(*seq);
                            let written = last * 5 >= call.span.1;
                            call.complete(Err(ConnectionLoss::Deadline { written }));
                        }
                    }
                    expired.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(expired, expected);
                    prop_assert!(calls.earliest().is_none_or(|earliest| earliest > at(now)));
                }
                Event::Goaway { last } => {
                    let Some(last) = pick(last) else { continue };
                    calls.refuse_above(last, |_| ());
                    for (seq, call) in &mut model {
                        if *seq > last.0 && !std::mem::replace(&mut call.answered, true) {
                            call.complete(Err(ConnectionLoss::Goaway));
                        }
                    }
                }
                Event::Release => {
                    calls.release_memory();
                    prop_assert!(calls.taken > 0 || calls.slots.capacity() == 0);
                }
                Event::Lose { written } => {
                    calls.lose_all(written, |_| ());
                    for call in model.values_mut() {
                        if !std::mem::replace(&mut call.answered, true) {
                            let begun = call.span.0 < written;
                            let execution = if begun { Execution::Maybe } else { Execution::NotSent };
                            call.complete(Err(ConnectionLoss::Closed(execution)));
                        }
                    }
                }
            }
            prop_assert_eq!(calls.unanswered(), model.values().filter(|call| !call.answered).count());
            prop_assert_eq!(calls.taken, model.values().filter(|call| !call.answered || call.caller).count());
            for (seq, call) in &model {
                let known = call.deadline.is_none_or(|deadline| calls.earliest().is_some_and(|e| e <= at(deadline)));
                prop_assert!(known, "the deadline of {} would be missed", seq);
            }
        }
        // Once all calls are answered and abandoned, no slot is taken.
        calls.lose_all(u64::MAX, |_| ());
        for seq in seqs {
            calls.abandon(seq);
        }
        prop_assert!(empty(&calls));
    }
}
