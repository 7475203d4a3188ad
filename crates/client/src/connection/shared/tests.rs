//! Tests of states that no test over a stream reaches.

use farcall_protocol::{Codec, Flags, Message};

use super::*;
use crate::connection::in_flight::ReplyParts;

fn shared() -> Shared {
    Shared::new(
        Negotiated::new(Codec::default()),
        Address::parse("tcp@10.0.0.3:7001").unwrap(),
        &ConnectionOptions::default(),
    )
}

#[test]
fn connection_closes_before_its_numbers_become_inexact_in_json() {
    let shared = shared();
    let body = Body::default();
    let request = EncodedRequest::new("A.a", &body, None, Flags::NONE, None, &shared.negotiated).unwrap();
    shared.lock().in_flight = InFlight::behind(Seq(LAST_SEQ - 1));
    let (seq, _) = shared.enqueue(&request, None).unwrap();
    assert!(seq.0 >= LAST_SEQ && seq.0 < Seq::JSON_END);
    assert!(matches!(shared.enqueue(&request, None), Err(SendError::Closed)));
    assert!(!shared.is_open());
    assert!(shared.slots.is_closed());
    assert_eq!(shared.close_reason(), "the numbers for its calls are used up");
    assert!(shared.has_output(), "a goaway has to be written");
    assert!(!shared.is_done(), "one call is still under way");
}

#[test]
fn reported_load_is_that_of_connections_that_take_calls() {
    let (load, mut metadata) = (Arc::<Load>::default(), Metadata::new());
    let reported = || {
        let report = load.report_at(Instant::now(), Duration::ZERO, Duration::MAX);
        report.map(|report| report.calls_per_second)
    };
    let mut told = |connection: &Shared, rps: u32| {
        metadata.insert(LOAD, format!("rps={rps},in_flight=1")).unwrap();
        connection.read_load(&metadata);
    };
    // Two processes behind one address.
    let [one, other, unheard] = [shared(), shared(), shared()];
    [&one, &other].into_iter().for_each(|connection| connection.report_load_to(&load));
    told(&one, 100);
    told(&other, 300);
    told(&unheard, 900);
    assert_eq!(reported(), Some(200.0));
    one.close();
    assert_eq!(reported(), Some(300.0));
    told(&one, 100);
    one.report_load_to(&load);
    told(&one, 100);
    assert_eq!(reported(), Some(300.0), "it takes no more calls");
    // The process has restarted, and another connection leads to its successor.
    other.end("it was closed".to_owned(), crate::connection::progress::EndKind::Closed);
    assert_eq!(reported(), None);
}

#[test]
fn pongs_to_a_server_that_reads_nothing_are_bounded() {
    let shared = Shared { outbox_bytes: 100, ..shared() };
    for seq in 0..1000 {
        shared.pong(Seq(seq));
    }
    assert!((100..120).contains(&shared.lock().control.remaining()));
}

#[test]
fn memory_is_released_once_no_call_is_there() {
    let shared = shared();
    let body = Body::default();
    let request = EncodedRequest::new("A.a", &body, None, Flags::NONE, None, &shared.negotiated).unwrap();
    let (seq, _) = shared.enqueue(&request, None).unwrap();
    shared.release_memory();
    let mut outbox = Outbox::new();
    assert_eq!(shared.take_output(&mut outbox, false, true), Some(0));
    assert!(outbox.has_remaining(), "a request that waits is kept");
    shared.abandon(seq);
    shared.release_memory();
    assert_eq!(shared.in_flight(), 1, "the server still works on it");
    let mut replies = vec![(seq, ReplyParts::take_from(&mut Message::default()))];
    shared.complete(&mut replies, &mut Vec::new());
    assert!(shared.lock().in_flight.holds_memory());
    shared.release_memory();
    assert!(!shared.lock().in_flight.holds_memory());
    assert_eq!(shared.in_flight(), 0);
    let (next, _) = shared.enqueue(&request, None).unwrap();
    assert!(next > seq, "numbers go on");
}

#[test]
fn only_call_is_written_at_once_if_its_caller_was_alone_before() {
    let shared = shared();
    let body = Body::default();
    let request = EncodedRequest::new("A.a", &body, None, Flags::NONE, None, &shared.negotiated).unwrap();
    let mut outbox = Outbox::new();
    shared.enqueue(&request, None).unwrap();
    assert_eq!(shared.take_output(&mut outbox, false, false), None, "more callers may be about to follow");
    assert!(shared.has_output());
    assert_eq!(shared.take_output(&mut outbox, true, false), Some(0));
    assert!(outbox.has_remaining() && !shared.has_output());
    shared.enqueue(&request, None).unwrap();
    let taken = shared.take_output(&mut outbox, true, false);
    assert_eq!(taken, None, "there are two callers, and a third may follow");
}

#[tokio::test]
async fn request_that_found_no_room_is_sent_once_there_is_some() {
    let shared = Shared { outbox_bytes: 1, ..shared() };
    let body = Body::default();
    let request = EncodedRequest::new("A.a", &body, None, Flags::NONE, None, &shared.negotiated).unwrap();
    shared.enqueue(&request, None).unwrap();
    let mut phase = CallPhase::Queue;
    let mut second = std::pin::pin!(shared.when_room(&mut phase, || shared.enqueue(&request, None)));
    assert!(futures::poll!(&mut second).is_pending());
    let mut outbox = Outbox::new();
    assert_eq!(shared.take_output(&mut outbox, false, true), Some(0));
    assert!(futures::poll!(&mut second).is_ready());
    assert!(shared.has_output());
}
