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
    assert!(shared.lock().outbox.remaining() < 120);
}

#[test]
fn only_call_is_written_at_once_if_its_caller_was_alone_before() {
    let shared = shared();
    let body = Body::default();
    let request = EncodedRequest::new("A.a", &body, None, Flags::NONE, None, &shared.negotiated).unwrap();
    shared.enqueue(&request, None).unwrap();
    assert!(shared.has_worthwhile_output(true));
    assert!(!shared.has_worthwhile_output(false), "more callers may be about to follow");
    shared.enqueue(&request, None).unwrap();
    assert!(!shared.has_worthwhile_output(true), "there are two callers, and a third may follow");
}
