//! Streaming calls on a connection: what passes between a request and its response, byte for byte and message by message.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use bytes::Bytes;
use farcall_protocol::{Code, Codec, Compression, Execution, Flags, HeaderRef, Kind, Seq};
use farcall_server::Limits;
use serde_json::{Value, json};
use support::feed::{offer, serve_feed};
use support::{Raw, none, secs};

const REFUSED: Execution = Execution::Refused;
const MAYBE: Execution = Execution::Maybe;
const DONE: Execution = Execution::Done;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn vectors_of_the_protocol_are_answered_to_the_byte() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(256 * 1024).await;
    client
        .write(&unhex("00000012 970101aa466565642e636f756e7400c0c008 0000000b 82a466726f6d03a2746f05"))
        .await;
    let mut expected = unhex("00000003 920801 00000001 03");
    expected.extend(unhex("00000003 920801 00000001 04"));
    expected.extend(unhex("00000003 920201 00000001 02"));
    let mut found = vec![0; expected.len()];
    tokio::io::AsyncReadExt::read_exact(&mut client.frames.stream, &mut found).await.unwrap();
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn starved_item_says_so_and_credit_is_the_sum_since_the_beginning() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(1).await;
    let seq = client.stream("Feed.count", json!({"from": 3, "to": 5})).await;
    let first = client.expect(Kind::Item, seq).await;
    assert_eq!(first.header.flags, Flags::NONE);
    client.assert_silent().await;
    // Exactly what was spent is no credit.
    client.credit(seq, 65).await;
    client.assert_silent().await;
    client.credit(seq, 66).await;
    let second = client.expect(Kind::Item, seq).await;
    assert_eq!((second.header.flags, &second.body[..]), (Flags::STARVED, &[4][..]));
    assert_eq!(client.response().await.value(), 2);
}

#[tokio::test(start_paused = true)]
async fn both_codecs_stream_in_both_directions() {
    let server = serve_feed(Limits::default());
    for codec in [Codec::MessagePack, Codec::Json] {
        let mut client = Raw::connect_with(&server.handle, &offer(65536).codec(codec)).await;
        let seq = client.stream("Feed.echo", none()).await;
        for n in 0..3_u8 {
            let item = farcall_protocol::Bytes::from(vec![n; 3]);
            client.item(seq, &item).await;
            let message = client.expect(Kind::Item, seq).await;
            assert_eq!(message.body, client.codec().encode(&item).unwrap());
        }
        client.end(seq).await;
        assert_eq!(client.response().await.value(), 3);
        let seq = client.stream("Feed.sum", none()).await;
        for n in 1..=10 {
            client.item(seq, &n).await;
        }
        client.end(seq).await;
        assert_eq!(client.response().await.value(), 55);
    }
    server.assert_no_streams_left().await;
}

#[tokio::test(start_paused = true)]
async fn items_may_be_compressed_in_both_directions() {
    let server = serve_feed(Limits::default());
    let mut client =
        Raw::connect_with(&server.handle, &offer(65536).compression(Compression::built_in())).await;
    let seq = client.stream("Feed.echo", none()).await;
    let item = farcall_protocol::Bytes::from(vec![1; 5000]);
    let body = client.codec().encode(&item).unwrap();
    let compressed = Compression::Lz4.compress(&body).unwrap();
    let header = HeaderRef { flags: Flags::COMPRESSED, ..HeaderRef::new(Kind::Item, seq) };
    client.send(&header, compressed.clone()).await;
    let message = client.expect(Kind::Item, seq).await;
    assert_eq!((message.header.flags, message.body), (Flags::COMPRESSED, compressed));
    let header = HeaderRef { flags: Flags::COMPRESSED, ..HeaderRef::new(Kind::Item, seq) };
    client.send(&header, "no block").await;
    let answer = client.expect_response_behind_stop(seq).await;
    answer.assert_error(Code::InvalidArgument, DONE);
}

#[tokio::test(start_paused = true)]
async fn method_and_request_must_agree_on_streaming() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(65536).await;
    let answer = client.call("Feed.count", json!({"from": 0, "to": 1})).await;
    let said = answer.assert_error(Code::InvalidArgument, REFUSED);
    assert_eq!(said, "`Feed.count` streams items, and this is a plain request");
    client.stream("T.echo", json!({"text": "a"})).await;
    let answer = client.response().await;
    let said = answer.assert_error(Code::InvalidArgument, REFUSED);
    assert_eq!(said, "`T.echo` streams no items, and this is a streaming request");
    client.stream("Feed.nothing", none()).await;
    client.response().await.assert_error(Code::Unimplemented, REFUSED);
    // Bit 1 is ignored: a streaming call is always answered.
    let flags = Flags::STREAMING.with(Flags::ONE_WAY);
    client.request_with("Feed.count", json!([0, 0]), |header| header.flags = flags).await;
    assert_eq!(client.response().await.value(), 0);
    // Without an agreement, the flag means nothing.
    let mut plain = server.connect().await;
    plain.stream("T.echo", json!({"text": "a"})).await;
    assert_eq!(plain.response().await.value(), "a");
    plain.item(Seq(1), &1).await;
    plain.assert_goaway(1, Code::InvalidArgument).await;
}

#[tokio::test(start_paused = true)]
async fn undecodable_arguments_and_items_are_invalid_arguments() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(65536).await;
    client.stream("Feed.count", json!({"from": "a", "to": 1})).await;
    client.response().await.assert_error(Code::InvalidArgument, REFUSED);
    let seq = client.stream("Feed.sum", none()).await;
    client.item(seq, &1).await;
    client.item(seq, "two").await;
    let answer = client.expect_response_behind_stop(seq).await;
    let said = answer.assert_error(Code::InvalidArgument, DONE);
    assert!(said.starts_with("item 1: "), "{said}");
}

#[tokio::test(start_paused = true)]
async fn streams_have_places_of_their_own() {
    let server = serve_feed(Limits::default().max_streams(2).max_in_flight(1));
    let mut client = server.connect_streams(65536).await;
    let first = client.stream("Feed.hold", none()).await;
    client.stream("Feed.hold", none()).await;
    client.stream("Feed.hold", none()).await;
    let answer = client.response().await;
    let said = answer.assert_error(Code::ResourceExhausted, REFUSED);
    assert_eq!(said, "2 streaming calls are in flight on this connection");
    let waiting = client.request("T.wait", none()).await;
    client.call("T.wait", none()).await.assert_error(Code::ResourceExhausted, REFUSED);
    client.cancel(first).await;
    assert_eq!(
        client.response().await.assert_error(Code::Cancelled, MAYBE),
        "`Feed.hold` was stopped: its caller cancelled it"
    );
    let seq = client.stream("Feed.sum", none()).await;
    client.end(seq).await;
    assert_eq!(client.response().await.value(), 0);
    server.stage.gate.add_permits(1);
    assert_eq!(client.response().await.seq(), waiting);
}

#[tokio::test(start_paused = true)]
async fn client_that_sends_items_to_a_method_that_takes_none_is_told_to_stop() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(65536).await;
    let seq = client.stream("Feed.ticks", json!({"n": 3_600_000})).await;
    assert_eq!(client.expect_item(seq).await, 0);
    client.item(seq, &1).await;
    client.item(seq, &2).await;
    client.expect(Kind::Stop, seq).await;
    client.assert_silent().await;
    client.cancel(seq).await;
    client.response().await.assert_error(Code::Cancelled, MAYBE);
    server.assert_no_streams_left().await;
}

#[tokio::test(start_paused = true)]
async fn messages_for_a_call_that_is_not_in_flight_are_ignored() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(65536).await;
    let seq = client.stream("Feed.count", json!([0, 0])).await;
    client.response().await.value();
    for seq in [seq, Seq(700)] {
        client.item(seq, &1).await;
        client.end(seq).await;
        client.credit(seq, 1 << 20).await;
        client.stop(seq).await;
        client.cancel(seq).await;
    }
    assert_eq!(client.call("T.echo", json!({"text": "on"})).await.value(), "on");
}

#[tokio::test(start_paused = true)]
async fn item_after_the_end_without_credit_and_bad_credit_are_protocol_errors() {
    let server = serve_feed(Limits::default().stream_window(130));
    for case in 0..3 {
        let mut client = server.connect_streams(65536).await;
        let seq = client.stream("Feed.hold", none()).await;
        match case {
            0 => {
                client.end(seq).await;
                client.item(seq, &1).await;
            }
            1 => {
                for _ in 0..3 {
                    client.item(seq, &1).await;
                }
            }
            _ => client.send(&HeaderRef::new(Kind::Credit, seq), Bytes::from_static(b"\xa1x")).await,
        }
        let said = client.assert_goaway(1, Code::InvalidArgument).await;
        let expected =
            ["an item of call 1 follows its end", "call 1: an item was sent although 130 of 130", "credit: "];
        assert!(said.starts_with(expected[case]), "{said}");
        client.assert_closed().await;
    }
    server.assert_no_streams_left().await;
}

#[tokio::test(start_paused = true)]
async fn timeout_is_for_the_whole_call_and_handle_timeout_until_the_first_item() {
    let server = serve_feed(Limits::default().handle_timeout(secs(1)));
    let mut client = server.connect_streams(65536).await;
    let seq = client.stream("Feed.hold", none()).await;
    let answer = client.response().await;
    assert_eq!(answer.seq(), seq);
    let said = answer.assert_error(Code::DeadlineExceeded, MAYBE);
    assert_eq!(said, "`Feed.hold` was stopped: it sent no item and did not end within 1 s, `handle_timeout`");
    let seq = client
        .request_with("Feed.ticks", json!({"n": 900}), |header| {
            (header.flags, header.timeout_ms) = (Flags::STREAMING, 10_000);
        })
        .await;
    for n in 0..12 {
        assert_eq!(client.expect_item(seq).await, n);
    }
    let answer = client.response().await;
    let said = answer.assert_error(Code::DeadlineExceeded, MAYBE);
    assert_eq!(said, "`Feed.ticks` was stopped: it did not end within 10 s, its caller's timeout");
    server.assert_no_streams_left().await;
}

#[tokio::test(start_paused = true)]
async fn latency_of_a_stream_is_the_time_to_its_first_item() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(65536).await;
    let seq = client.stream("Feed.ticks", json!({"n": 77})).await;
    for _ in 0..100 {
        client.expect_item(seq).await;
    }
    let open = server.handle.stats().into_iter().find(|stats| stats.name == "Feed.ticks").unwrap();
    assert!(open.in_flight == 1 && open.items_sent >= 100 && open.items_received == 0, "{open:?}");
    client.cancel(seq).await;
    client.expect_end_of(seq).await.assert_error(Code::Cancelled, MAYBE);
    let stats = server.handle.stats();
    let ticks = stats.iter().find(|stats| stats.name == "Feed.ticks").unwrap();
    assert_eq!((ticks.calls, ticks.errors, ticks.in_flight), (1, 1, 0));
    assert!(ticks.max_us < 70_000 && ticks.items_sent >= open.items_sent, "{ticks:?}");
}

#[tokio::test(start_paused = true)]
async fn services_tell_which_methods_stream() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(65536).await;
    let services = client.call("farcall.services", none()).await.value();
    let method = |service: &str, name: &str| -> Value {
        let of = |list: &Value, name: &str| {
            list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
        };
        of(&of(&services, service)["methods"], name)
    };
    let echo = method("Feed", "echo");
    assert_eq!(echo["streaming"], true);
    assert_eq!((&echo["streams"]["in"], &echo["streams"]["out"]), (&json!(true), &json!(true)));
    assert!(echo["streams"]["in_type"].as_str().unwrap().contains("u8"));
    let count = method("Feed", "count");
    assert_eq!(count["streams"], json!({"in": false, "out": true, "out_type": "u64"}));
    let plain = method("T", "echo");
    assert_eq!(
        (&plain["streaming"], &plain["streams"]),
        (&json!(false), &json!({"in": false, "out": false}))
    );
}
