//! Options and answers of the handshake.

use std::time::Duration;

use bytes::BytesMut;
use farcall_protocol::{
    ClientOffer, Code, Codec, Compression, Execution, MaxStreams, ServerPolicy, Status, StreamPolicy,
    StreamWindow, next_option,
};
use farcall_test_support::frames::frame;

/// A client's Option, framed or alone: it is refused, or its terms are such that the client agrees with them.
pub(crate) fn option(data: &[u8]) {
    let framed = next_option(&mut BytesMut::from(data)).ok().flatten();
    let policy = ServerPolicy::default().compression(Compression::built_in()).streams(stream_policy());
    for option in [Some(data), framed.as_deref()].into_iter().flatten() {
        match policy.negotiate(option) {
            Ok(hello) => {
                let _ = format!("{hello:?}");
                let answer = ServerPolicy::encode_accept(&hello.negotiated);
                let offer = offer(hello.negotiated.codec.clone());
                // An offer of streams and compression is a superset of what was asked for.
                offer.accept_answer(&answer).expect("the client agrees with what it asked for");
            }
            Err(status) => refuse(&policy, &status),
        }
    }
}

fn refuse(policy: &ServerPolicy, status: &Status) {
    let refusal = policy.encode_refusal(status);
    for codec in Codec::built_in() {
        assert!(offer(codec).accept_answer(&refusal).is_err(), "a refusal is taken for an agreement");
    }
}

/// A server's answer.
pub(crate) fn answer(data: &[u8]) {
    let framed = next_option(&mut BytesMut::from(data)).ok().flatten();
    for answer in [Some(data), framed.as_deref()].into_iter().flatten() {
        for codec in Codec::built_in() {
            match offer(codec.clone()).accept_answer(answer) {
                Ok(terms) => assert_eq!(terms.codec, codec),
                Err(error) => drop(error.to_string()),
            }
            let _ = ClientOffer::default().codec(codec).streams(None).accept_answer(answer);
        }
    }
}

fn stream_policy() -> StreamPolicy {
    StreamPolicy::new(StreamWindow::DEFAULT, MaxStreams::DEFAULT)
}

fn offer(codec: Codec) -> ClientOffer {
    ClientOffer::default()
        .codec(codec)
        .compression(Compression::built_in())
        .handle_timeout(Duration::from_secs(3))
        .token("a token".to_owned())
        .streams(StreamWindow::DEFAULT)
}

pub(crate) fn option_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![b"{}".to_vec(), b"{\"MagicNumber\":1}".to_vec()];
    for codec in Codec::built_in() {
        let options = [offer(codec.clone()), ClientOffer::default().codec(codec)];
        for option in options.map(|offer| offer.encode().unwrap()) {
            seeds.push(frame(&option));
            seeds.push(option);
        }
    }
    seeds
}

pub(crate) fn answer_seeds() -> Vec<Vec<u8>> {
    let policy = ServerPolicy::default().compression(Compression::built_in()).streams(stream_policy());
    let status = Status::new(Code::Unauthenticated, Execution::Refused, "no \u{1b}[2J");
    let mut seeds = vec![policy.encode_refusal(&status)];
    for codec in Codec::built_in() {
        let hello = policy.negotiate(&offer(codec).encode().unwrap()).unwrap();
        let answer = ServerPolicy::encode_accept(&hello.negotiated);
        seeds.push(frame(&answer));
        seeds.push(answer);
    }
    seeds
}
