//! Tests of states that no test over a stream reaches.

use farcall_protocol::{Codec, Flags};

use super::*;

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
fn pongs_to_a_server_that_reads_nothing_are_bounded() {
    let shared = Shared { outbox_bytes: 100, ..shared() };
    for seq in 0..1000 {
        shared.pong(Seq(seq));
    }
    assert!((100..120).contains(&shared.lock().control.remaining()));
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
