//! Items, credit, and the order of what is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use farcall_client::{Channel, ConnectionOptions};
use farcall_protocol::{Flags, Kind, Message, Seq};
use futures::{SinkExt, StreamExt};
use serde::{Serialize, Serializer};

use crate::peer::{channel, connect, terms};
use crate::support::{S, connect_with, settle};

#[tokio::test(start_paused = true)]
async fn items_come_in_order_before_the_final_value() {
    let (channel, mut peer) = channel().await;
    let mut numbers = channel.call::<u64>("Feed.count", &(3, 5)).receive::<u64>().await.unwrap();
    let seq = peer.receiving().await;
    peer.item(seq, &3).await;
    peer.item(seq, &4).await;
    peer.answer(seq, &2).await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 3);
    assert_eq!(numbers.next().await.unwrap().unwrap(), 4);
    assert!(numbers.next().await.is_none());
    assert_eq!(numbers.finish().await.unwrap(), 2);
    assert_eq!(channel.connection().unwrap().held_by_streams(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn bytes_on_the_wire_are_those_of_the_contract() {
    #[derive(serde::Serialize)]
    struct Count {
        from: u64,
        to: u64,
    }
    let (channel, mut peer) = channel().await;
    let call = channel.call::<u64>("Feed.count", &Count { from: 3, to: 5 });
    let mut numbers = call.receive::<u64>().await.unwrap();
    let request = peer.request().await;
    let header = peer.frames.encode(&request.header.as_ref(), request.body.clone());
    assert_eq!(
        header,
        b"\0\0\0\x12\x97\x01\x01\xaaFeed.count\0\xc0\xc0\x08\0\0\0\x0b\x82\xa4from\x03\xa2to\x05"
    );
    // Items 3 and 4, the second one starved, and the response.
    peer.raw(b"\0\0\0\x03\x92\x08\x01\0\0\0\x01\x03").await;
    peer.raw(b"\0\0\0\x08\x97\x08\x01\xa0\0\xc0\xc0\x10\0\0\0\x01\x04").await;
    peer.raw(b"\0\0\0\x03\x92\x02\x01\0\0\0\x01\x02").await;
    let items: Vec<u64> = numbers.by_ref().map(Result::unwrap).collect().await;
    assert_eq!((items, numbers.finish().await.unwrap()), (vec![3, 4], 2));
}

#[tokio::test(start_paused = true)]
async fn upload_ends_behind_its_items_and_has_a_final_value() {
    let (channel, mut peer) = channel().await;
    let mut sum = channel.call::<i64>("Feed.sum", &()).send_items::<i64>().await.unwrap();
    let seq = peer.streaming().await;
    assert!(sum.send(20).await.unwrap());
    assert!(sum.send(22).await.unwrap());
    let finish = tokio::spawn(sum.finish());
    assert_eq!(peer.take::<i64>().await, (20, Flags::NONE));
    assert_eq!(peer.take::<i64>().await, (22, Flags::NONE));
    assert_eq!(peer.expect(Kind::End).await.header.seq, seq);
    peer.answer(seq, &42).await;
    assert_eq!(finish.await.unwrap().unwrap(), 42);
}

#[tokio::test(start_paused = true)]
async fn credit_is_granted_when_half_of_the_window_was_taken() {
    let options = ConnectionOptions::default().stream_window(8 * 1024);
    let (_connection, channel, mut peer) = connect(&options, 64 * 1024).await;
    let mut blobs = channel.call::<()>("Feed.blobs", &()).receive::<farcall_protocol::Bytes>().await.unwrap();
    let seq = peer.receiving().await;
    for _ in 0..4 {
        peer.bytes(seq, 2000).await;
    }
    settle().await;
    peer.assert_silent(S).await;
    for _ in 0..2 {
        blobs.next().await.unwrap().unwrap();
    }
    let limit = peer.granted().await;
    assert!((12_000..12_500).contains(&limit), "{limit}");
}

#[tokio::test(start_paused = true)]
async fn item_without_credit_waits_and_is_starved() {
    let (_connection, channel, mut peer) = connect(&ConnectionOptions::default(), 100).await;
    let mut upload = channel.call::<()>("Feed.hold", &()).send_items::<u64>().await.unwrap();
    let seq = peer.streaming().await;
    upload.send(1).await.unwrap();
    upload.send(2).await.unwrap();
    let sending = tokio::spawn(async move {
        upload.send(3).await.unwrap();
        upload
    });
    assert_eq!(peer.take::<u64>().await, (1, Flags::NONE));
    assert_eq!(peer.take::<u64>().await, (2, Flags::NONE));
    peer.assert_silent(S).await;
    assert!(!sending.is_finished());
    peer.credit(seq, 1000).await;
    assert_eq!(peer.take::<u64>().await, (3, Flags::STARVED));
    let _upload = sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn item_of_any_legal_size_passes_the_smallest_window() {
    let options = ConnectionOptions::default().stream_window(1);
    let (_connection, channel, mut peer) = connect(&options, 1).await;
    let call = channel.call::<()>("Feed.echo", &());
    let mut echo = call.exchange::<farcall_protocol::Bytes, farcall_protocol::Bytes>().await.unwrap();
    let seq = peer.streaming().await;
    let sent = tokio::spawn(async move {
        echo.send(farcall_protocol::Bytes::from(vec![1; 3_000_000])).await.unwrap();
        echo
    });
    let (item, _) = peer.take::<farcall_protocol::Bytes>().await;
    peer.item(seq, &item).await;
    let mut echo = sent.await.unwrap();
    assert_eq!(echo.next().await.unwrap().unwrap().len(), 3_000_000);
}

#[tokio::test(start_paused = true)]
async fn item_over_the_frame_limit_is_an_error_and_the_call_goes_on() {
    let terms = terms(64 * 1024, 16).max_frame_bytes(farcall_protocol::MaxFrameBytes::new(1000));
    let (connection, mut peer) = connect_with(&ConnectionOptions::default(), &terms, 64 * 1024).await;
    let channel = Channel::from(connection);
    let mut upload =
        channel.call::<()>("Feed.hold", &()).send_items::<farcall_protocol::Bytes>().await.unwrap();
    peer.streaming().await;
    let error = upload.send(farcall_protocol::Bytes::from(vec![0; 1001])).await.unwrap_err();
    assert_error!(error.rpc().unwrap(), ResourceExhausted, Maybe, Write);
    upload.send(farcall_protocol::Bytes::from(vec![0; 900])).await.unwrap();
    peer.take::<farcall_protocol::Bytes>().await;
}

#[tokio::test(start_paused = true)]
async fn halves_of_an_exchange_work_in_two_tasks() {
    let (channel, mut peer) = channel().await;
    let echo = channel.call::<u64>("Feed.echo", &()).exchange::<u64, u64>().await.unwrap();
    let seq = peer.streaming().await;
    let (mut sink, mut items) = echo.split();
    let sending = tokio::spawn(async move {
        let mut numbers = futures::stream::iter((0..100).map(Ok));
        sink.send_all(&mut numbers).await.unwrap();
        sink.finish().await.unwrap()
    });
    let serving = tokio::spawn(async move {
        for _ in 0..100 {
            let (number, _) = peer.take::<u64>().await;
            peer.item(seq, &number).await;
        }
        peer.expect(Kind::End).await;
        peer.answer(seq, &100).await;
        peer
    });
    let received: Vec<u64> = items.by_ref().map(Result::unwrap).collect().await;
    assert_eq!(received, (0..100).collect::<Vec<u64>>());
    assert_eq!((items.finish().await.unwrap(), sending.await.unwrap()), (100, 100));
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reader_that_stands_still_does_not_hold_up_another() {
    let options = ConnectionOptions::default().stream_window(1000);
    let (_connection, channel, mut peer) = connect(&options, 1000).await;
    let _still = channel.call::<()>("Feed.blobs", &()).receive::<farcall_protocol::Bytes>().await.unwrap();
    let still = peer.receiving().await;
    peer.bytes(still, 2000).await;
    let mut numbers = channel.call::<()>("Feed.ticks", &()).receive::<u64>().await.unwrap();
    let seq = peer.receiving().await;
    for number in 0..100 {
        peer.item(seq, &number).await;
        assert_eq!(numbers.next().await.unwrap().unwrap(), number);
    }
    let plain = channel.call::<()>("A.a", &()).start();
    let request = loop {
        let message = peer.next().await.unwrap();
        if message.header.kind == Kind::Request {
            break message;
        }
        assert_eq!((message.header.kind, message.header.seq), (Kind::Credit, seq));
    };
    peer.answer(request.header.seq, &()).await;
    plain.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn server_without_streams_gets_no_streaming_call() {
    for (options, setting) in [
        (ConnectionOptions::default(), "handshake"),
        (ConnectionOptions::default().stream_window(None), "stream_window"),
    ] {
        let terms = farcall_protocol::ServerPolicy::default();
        let (connection, mut peer) = connect_with(&options, &terms, 64 * 1024).await;
        let channel = Channel::from(connection);
        let error = channel.call::<()>("Feed.ticks", &()).receive::<u64>().await.unwrap_err();
        let error = error.rpc().unwrap().clone();
        assert_error!(error, Unimplemented, NotSent, Handshake);
        assert!(
            error.message().contains("`Feed.ticks` streams") && error.message().contains(setting),
            "{error}"
        );
        peer.assert_silent(S).await;
    }
}

#[tokio::test(start_paused = true)]
async fn streaming_calls_have_places_of_their_own() {
    let (connection, mut peer) =
        connect_with(&ConnectionOptions::default(), &terms(64 * 1024, 1), 64 * 1024).await;
    let channel = Channel::from(connection);
    let first = channel.call::<()>("Feed.ticks", &()).receive::<u64>().await.unwrap();
    let seq = peer.receiving().await;
    let second = channel.call::<()>("Feed.ticks", &()).receive::<u64>();
    let second = tokio::spawn(async move { second.await });
    peer.assert_silent(S).await;
    let plain = channel.call::<()>("A.a", &()).start();
    let request = peer.request().await;
    peer.answer(request.header.seq, &()).await;
    plain.await.unwrap();
    drop(first);
    assert_eq!(peer.expect(Kind::Cancel).await.header.seq, seq);
    // The place comes free with the response only.
    peer.assert_silent(S).await;
    peer.answer(seq, &()).await;
    peer.receiving().await;
    second.await.unwrap().unwrap();
}

/// A value without an encoding.
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it has no encoding"))
    }
}

/// Asserts that other tasks of the thread run while a caller does nothing but this.
async fn assert_lets_others_run(what: &str, mut step: impl AsyncFnMut()) {
    let ran = Arc::<AtomicBool>::default();
    let other = Arc::clone(&ran);
    tokio::spawn(async move { other.store(true, Ordering::Relaxed) });
    for _ in 0..10_000 {
        if ran.load(Ordering::Relaxed) {
            return;
        }
        step().await;
    }
    panic!("no other task ran beside {what}");
}

#[tokio::test(start_paused = true)]
async fn caller_whose_items_are_not_sent_lets_others_run() {
    let (channel, _peer) = channel().await;
    let upload = || channel.call::<()>("Feed.hold", &());
    let mut invalid = upload().send_items::<Unencodable>().await.unwrap();
    assert_lets_others_run("items that do not encode", async || {
        invalid.send(Unencodable).await.unwrap_err();
    })
    .await;
    assert_lets_others_run("those of a sink", async || {
        SinkExt::feed(&mut invalid, Unencodable).await.unwrap_err();
    })
    .await;
    let mut large = upload().send_items::<farcall_protocol::Bytes>().await.unwrap();
    let item = farcall_protocol::Bytes::from(vec![0; 5 << 20]);
    assert_lets_others_run("items that are too large", async || {
        large.send(item.clone()).await.unwrap_err();
    })
    .await;
    let mut ended = upload().exchange::<u64, u64>().await.unwrap();
    ended.end();
    assert_lets_others_run("items behind the end", async || assert!(!ended.send(1).await.unwrap())).await;
    assert_lets_others_run("those of a sink", async || SinkExt::feed(&mut ended, 1).await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn server_that_runs_no_streams_is_not_asked() {
    let (connection, mut peer) =
        connect_with(&ConnectionOptions::default(), &terms(64 * 1024, 0), 64 * 1024).await;
    let channel = Channel::from(connection);
    let error = channel.call::<()>("Feed.ticks", &()).receive::<u64>().await.unwrap_err();
    assert_error!(error.rpc().unwrap(), ResourceExhausted, NotSent, Handshake);
    peer.assert_silent(S).await;
}

#[tokio::test(start_paused = true)]
async fn broadcast_of_a_streaming_call_is_refused() {
    let (channel, mut peer) = channel().await;
    let error = channel.call::<()>("Feed.ticks", &()).receive::<u64>().broadcast().await.unwrap_err();
    assert_error!(error, InvalidArgument, NotSent, Prepare);
    assert!(error.message().contains("`Feed.ticks` streams"), "{error}");
    peer.assert_silent(S).await;
}

#[tokio::test(start_paused = true)]
async fn compressed_items_are_read_and_sent() {
    use farcall_protocol::{Compression, HeaderRef};
    let options = ConnectionOptions::default().compression(vec![Compression::Lz4]);
    let terms = terms(64 * 1024, 16).compression(vec![Compression::Lz4]);
    let (connection, mut peer) = connect_with(&options, &terms, 64 * 1024).await;
    let channel = Channel::from(connection);
    let mut echo = channel.call::<()>("Feed.echo", &()).exchange::<String, String>().await.unwrap();
    let seq = peer.streaming().await;
    let text = "compressible ".repeat(1000);
    echo.send(text.clone()).await.unwrap();
    let item = peer.expect(Kind::Item).await;
    assert!(item.header.flags.contains(Flags::COMPRESSED) && item.body.len() < 2000);
    let header = HeaderRef { flags: Flags::COMPRESSED, ..HeaderRef::new(Kind::Item, seq) };
    peer.send(&header, Bytes::clone(&item.body)).await;
    assert_eq!(echo.next().await.unwrap().unwrap(), text);
}

#[tokio::test(start_paused = true)]
async fn control_goes_before_requests_that_wait_and_behind_its_own() {
    let (connection, mut peer) =
        connect_with(&ConnectionOptions::default(), &terms(64 * 1024, 256), 4096).await;
    let channel = Channel::from(connection.clone());
    let mut blobs = channel.call::<()>("Feed.blobs", &()).receive::<farcall_protocol::Bytes>().await.unwrap();
    let seq = peer.receiving().await;
    let call = channel.call::<()>("A.a", &()).start();
    let cancelled = peer.request().await.header.seq;
    peer.bytes(seq, 200_000).await;
    // The first is taken at once, and fills the pipe.
    let mut calls: Vec<_> =
        (0..5).map(|_| channel.call::<()>("A.big", &("x".repeat(100_000),)).start()).collect();
    settle().await;
    assert_eq!(blobs.next().await.unwrap().unwrap().len(), 200_000);
    drop(call);
    drop(calls.pop());
    let mut upload = channel.call::<()>("Feed.sum", &()).send_items::<u64>().await.unwrap();
    upload.send(1).await.unwrap();
    let _finishing = tokio::spawn(upload.finish());
    settle().await;
    let flushed = tokio::spawn(async move { connection.flush().await });
    settle().await;
    assert_eq!(&*peer.request().await.header.service_method, "A.big");
    let mut kinds = Vec::new();
    let mut last = Seq(0);
    loop {
        let Message { header, .. } = peer.next().await.unwrap();
        kinds.push((header.kind, header.seq));
        if header.kind == Kind::End {
            break;
        }
        if header.kind == Kind::Request {
            last = last.max(header.seq);
        }
    }
    // The first to come is the credit; the cancel was to be flushed, behind all that was sent before.
    assert_eq!(kinds[0], (Kind::Credit, seq), "{kinds:?}");
    let position = |wanted: (Kind, Seq)| {
        kinds.iter().position(|seen| *seen == wanted).unwrap_or_else(|| panic!("{wanted:?} in {kinds:?}"))
    };
    assert!(position((Kind::Cancel, cancelled)) < kinds.len());
    let upload = last;
    let dropped = Seq(upload.0 - 1);
    assert!(position((Kind::Request, dropped)) < position((Kind::Cancel, dropped)), "{kinds:?}");
    assert!(position((Kind::Request, upload)) < position((Kind::Item, upload)), "{kinds:?}");
    assert!(position((Kind::Item, upload)) < position((Kind::End, upload)), "{kinds:?}");
    flushed.await.unwrap().unwrap();
}
