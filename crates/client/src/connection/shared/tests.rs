//! What no test over a stream gets to in its lifetime.

use farcall_protocol::{Codec, MaxFrameBytes, MaxInFlight};

use super::*;

fn shared() -> Shared {
    let negotiated = Negotiated {
        codec: Codec::default(),
        handle_timeout: None,
        compression: None,
        send_limit: MaxFrameBytes::DEFAULT,
        receive_limit: MaxFrameBytes::DEFAULT,
        max_in_flight: MaxInFlight::DEFAULT,
    };
    Shared::new(negotiated, Address::parse("tcp@10.0.0.3:7001").unwrap(), &ConnectionOptions::default())
}

#[test]
fn a_connection_closes_before_its_numbers_are_more_than_json_can_carry() {
    let shared = shared();
    let outgoing = Outgoing {
        method: "A.a",
        body: &Body::default(),
        flags: Flags::NONE,
        metadata: None,
        deadline: None,
    };
    shared.lock().in_flight = InFlight::behind(Seq(LAST_SEQ - 1));
    let (seq, _) = shared.send(&outgoing, None).unwrap();
    assert!(seq.0 >= LAST_SEQ && seq.0 < Seq::JSON_END);
    assert!(matches!(shared.send(&outgoing, None), Err(NotSent::Closed)));
    assert!(!shared.is_open());
    assert!(shared.places.is_closed());
    assert_eq!(shared.why_closed(), "the numbers for its calls are used up");
    assert!(shared.has_output(), "a goaway is to be written");
    assert!(!shared.is_done(), "one call is still under way");
}

#[test]
fn pongs_do_not_pile_up_behind_a_server_that_reads_nothing() {
    let shared = Shared { outbox_bytes: 100, ..shared() };
    for seq in 0..1000 {
        shared.pong(Seq(seq));
    }
    assert!(shared.lock().outbox.remaining() < 120);
}
