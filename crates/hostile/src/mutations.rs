//! Mutated messages in this process: they are decoded, and handed to the state machines of both sides, without a socket.
//!
//! Whatever comes must end in a message or an error; a panic ends the program.

use std::time::Instant;

use anyhow::ensure;
use bytes::{Bytes, BytesMut};
use farcall::protocol::limits::LENGTH_BYTES;
use farcall::protocol::stream::{StreamSettings, StreamTable, encode_credit};
use farcall::protocol::{
    ClientAction, ClientSession, Code, Codec, Execution, Flags, HeaderRef, Kind, MaxFrameBytes, Message,
    MessageDecoder, Seq, ServerAction, ServerSession, Status, StreamWindow,
};
use farcall_test_support::frames::{encode, frame};
use serde_json::{Value, json};

use crate::peer::{Mutator, Offer, Request};

/// The most messages that arrive in a row over one connection: mutated lengths spoil those behind them.
const MAX_MESSAGES: usize = 4;
/// The size of the largest frame, in bytes: mutated lengths are larger than that, or smaller.
const MAX_FRAME: usize = 64 * 1024;

/// The number of messages, by what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) decoded: u64,
    /// Those of a kind, a number or a content that ends the connection.
    pub(crate) protocol_errors: u64,
    /// Those whose bytes are no message.
    pub(crate) malformed: u64,
}

/// Decodes at least this many mutated messages, and prints what they came to.
pub(crate) fn run(count: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    let counts = decode_mutations(count);
    println!(
        "{} messages in {:.1} s: {} decoded, {} protocol errors, {} malformed",
        counts.sent,
        began.elapsed().as_secs_f64(),
        counts.decoded,
        counts.protocol_errors,
        counts.malformed
    );
    ensure!(counts.decoded > 0 && counts.malformed > 0, "all messages came to the same");
    Ok(())
}

fn decode_mutations(count: u64) -> Counts {
    let mut counts = Counts::default();
    let all: Vec<_> = Codec::built_in().into_iter().map(|codec| (messages(&codec), codec)).collect();
    for seed in 0.. {
        if counts.sent >= count {
            break;
        }
        let (messages, codec) = &all[seed as usize % all.len()];
        let mut mutator = Mutator::new(seed);
        let mut input = BytesMut::new();
        for _ in 0..=mutator.number(MAX_MESSAGES) {
            let number = mutator.number(messages.len());
            input.extend_from_slice(&mutated(&mut mutator, &messages[number]));
            counts.sent += 1;
        }
        decode(&mut input, codec, &mut counts);
    }
    counts
}

/// Mutates a message as a whole, or what is in its two frames.
fn mutated(mutator: &mut Mutator, message: &[u8]) -> Vec<u8> {
    if mutator.number(2) == 0 {
        return mutator.mutate(message);
    }
    let (length, rest) = message.split_at(LENGTH_BYTES);
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (header, body) = rest.split_at(length);
    [frame(&mutator.mutate(header)), frame(&mutator.mutate(&body[LENGTH_BYTES..]))].concat()
}

/// Decodes what has come over a connection, as both sides do.
fn decode(input: &mut BytesMut, codec: &Codec, counts: &mut Counts) {
    let limit = MaxFrameBytes::new(MAX_FRAME);
    let decoder = MessageDecoder::new(codec.clone(), limit);
    let (mut server, mut client) =
        (ServerSession::new().with_streams(true), ClientSession::new().with_streams(true));
    let window = StreamWindow::DEFAULT;
    let mut streams = StreamTable::new(StreamSettings::new(codec.clone(), limit, window, window));
    let now = Instant::now();
    loop {
        match decoder.next(input) {
            Ok(Some(Message { header, body, .. })) => {
                counts.decoded += 1;
                // A value, or an error: both are answers to what was sent.
                let _ = codec.decode::<Value>(&body);
                let asked = server.receive(&header, now);
                let answered = client.receive(&header, now);
                if matches!(asked, Ok(ServerAction::StartStream)) {
                    streams.open(header.seq, true);
                }
                let is_stream = asked == Ok(ServerAction::Stream) || answered == Ok(ClientAction::Stream);
                let passed = !is_stream || streams.receive(&header, body, now, |_| true).is_ok();
                if asked.is_err() && answered.is_err() || !passed {
                    counts.protocol_errors += 1;
                    return;
                }
            }
            // The rest of a message does not come.
            Ok(None) => return,
            Err(_) => {
                counts.malformed += 1;
                return;
            }
        }
    }
}

/// Returns messages of every kind.
fn messages(codec: &Codec) -> Vec<Vec<u8>> {
    let offer = Offer { codec: codec.clone(), ..Offer::default() };
    let pairs = vec![("a".to_owned(), "b".to_owned()), ("farcall-trace".to_owned(), "x".repeat(55))];
    let request =
        |name| Request::new(name, &offer.codec, &json!({"a": [1, -7, 1.5, null], "b": "text \u{e9}"}));
    let mut messages: Vec<_> = [
        request("Arith.multiply").numbered(1 << 53),
        request("Arith.multiply").metadata(pairs).timeout(500).numbered(1 << 53),
        request("Feed.echo").streaming().numbered(1 << 53),
        request("Log.line").one_way().numbered(1 << 53),
    ]
    .into();
    let status = Status::new(Code::ResourceExhausted, Execution::Refused, "no room \u{1b}[2J");
    let header = HeaderRef::new(Kind::Response, Seq(1 << 53));
    messages.push(encode(codec, &HeaderRef { error: Some(&status), ..header }, Bytes::new()));
    messages.push(encode(codec, &HeaderRef { flags: Flags::COMPRESSED, ..header }, vec![1, 0, 0, 0, 16, 7]));
    let credit = encode_credit(codec, 1 << 20).map(|body| body.into_bytes()).unwrap_or_default();
    for (kind, body) in [
        (Kind::Response, b"7"[..].into()),
        (Kind::Cancel, Bytes::new()),
        (Kind::Ping, Bytes::new()),
        (Kind::Pong, Bytes::new()),
        (Kind::Goaway, Bytes::new()),
        (Kind::Item, b"7"[..].into()),
        (Kind::End, Bytes::new()),
        (Kind::Credit, credit),
        (Kind::Stop, Bytes::new()),
    ] {
        messages.push(encode(codec, &HeaderRef::new(kind, Seq(1 << 53)), body));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutated_messages_end_in_messages_or_errors() {
        let counts = decode_mutations(100_000);
        assert_eq!(counts, decode_mutations(100_000), "they depend on the seed alone");
        assert!(
            counts.decoded > 1_000 && counts.malformed > 1_000 && counts.protocol_errors > 10,
            "{counts:?}"
        );
    }
}
