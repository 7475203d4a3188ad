//! The ends of streams: complete, failed, cancelled; never a truncated one that looks complete.

use farcall_client::{CallError, ConnectionOptions};
use farcall_protocol::{Code, Execution, HeaderRef, Kind, Status};
use futures::StreamExt;
use tokio::time::Duration;

use crate::peer::{channel, connect};
use crate::support::{S, settle};

#[tokio::test(start_paused = true)]
async fn dropping_the_receiving_half_cancels() {
    let (channel, mut peer) = channel().await;
    let mut numbers = channel.call::<()>("Feed.ticks", &()).receive::<u64>().await.unwrap();
    let seq = peer.receiving().await;
    peer.item(seq, &0).await;
    numbers.next().await.unwrap().unwrap();
    drop(numbers);
    peer.confirm_cancel(seq).await;
    settle().await;
    assert_eq!(channel.connection().unwrap().held_by_streams(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_sending_half_cancels_and_never_ends() {
    let (channel, mut peer) = channel().await;
    let mut upload = channel.call::<()>("Feed.sum", &()).send_items::<u64>().await.unwrap();
    let seq = peer.streaming().await;
    upload.send(1).await.unwrap();
    settle().await;
    drop(upload);
    loop {
        let message = peer.next().await.unwrap();
        match message.header.kind {
            Kind::Item => {}
            Kind::Cancel => break,
            kind => panic!("a broken loop looks like {kind}"),
        }
    }
    peer.fail(seq, Code::Cancelled, Execution::Maybe, "cancelled").await;
    settle().await;
    assert_eq!(channel.connection().unwrap().held_by_streams(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn dropping_either_half_of_an_exchange_cancels_it() {
    for sender in [false, true] {
        let (channel, mut peer) = channel().await;
        let echo = channel.call::<()>("Feed.echo", &()).exchange::<u64, u64>().await.unwrap();
        let seq = peer.streaming().await;
        let (mut sink, mut items) = echo.split();
        if sender {
            drop(sink);
            let error = items.next().await.unwrap().unwrap_err();
            assert_error!(error.rpc().unwrap(), Cancelled, Maybe, Wait);
            assert!(items.next().await.is_none());
        } else {
            drop(items);
            let error = sink.send(1).await.unwrap_err();
            assert_error!(error.rpc().unwrap(), Cancelled, Maybe, Wait);
        }
        peer.confirm_cancel(seq).await;
        settle().await;
        assert_eq!(channel.connection().unwrap().held_by_streams(), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn half_that_has_ended_may_be_dropped() {
    let (channel, mut peer) = channel().await;
    let echo = channel.call::<u64>("Feed.echo", &()).exchange::<u64, u64>().await.unwrap();
    let seq = peer.streaming().await;
    let (sink, mut items) = echo.split();
    sink.end();
    peer.expect(Kind::End).await;
    peer.item(seq, &7).await;
    peer.answer(seq, &1).await;
    assert_eq!(items.next().await.unwrap().unwrap(), 7);
    assert_eq!(items.finish().await.unwrap(), 1);
    peer.assert_silent(S).await;
}

#[tokio::test(start_paused = true)]
async fn response_while_the_client_still_sends_is_the_outcome() {
    let (_connection, channel, mut peer) = connect(&ConnectionOptions::default(), 100).await;
    let mut upload = channel.call::<u64>("Feed.first", &(1,)).send_items::<u64>().await.unwrap();
    let seq = peer.streaming().await;
    upload.send(1).await.unwrap();
    upload.send(2).await.unwrap();
    let sending = tokio::spawn(async move {
        let mut sent = 2;
        while upload.send(sent).await.unwrap() {
            sent += 1;
        }
        upload.finish().await
    });
    peer.take::<u64>().await;
    peer.answer(seq, &1).await;
    assert_eq!(sending.await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn error_while_the_client_still_sends_is_the_outcome() {
    let (channel, mut peer) = channel().await;
    let mut upload = channel.call::<u64>("Feed.sum", &()).send_items::<u64>().await.unwrap();
    let seq = peer.streaming().await;
    peer.fail(seq, Code::ResourceExhausted, Execution::Done, "the disk is full").await;
    settle().await;
    let error = upload.send(1).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::ResourceExhausted, Execution::Done));
    assert_eq!(upload.finish().await.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test(start_paused = true)]
async fn stop_of_the_server_ends_the_sending_and_not_the_call() {
    let (channel, mut peer) = channel().await;
    let mut upload = channel.call::<u64>("Feed.first", &(0,)).send_items::<u64>().await.unwrap();
    let seq = peer.streaming().await;
    peer.tell(Kind::Stop, seq).await;
    settle().await;
    assert!(!upload.send(1).await.unwrap());
    let finish = tokio::spawn(upload.finish());
    settle().await;
    peer.answer(seq, &0).await;
    assert_eq!(finish.await.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn finish_before_the_end_stops_and_waits_for_the_value() {
    let (channel, mut peer) = channel().await;
    let mut numbers = channel.call::<u64>("Feed.count", &(1, 9)).receive::<u64>().await.unwrap();
    let seq = peer.receiving().await;
    peer.item(seq, &1).await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    let finish = tokio::spawn(numbers.finish());
    assert_eq!(peer.expect(Kind::Stop).await.header.seq, seq);
    peer.item(seq, &2).await;
    peer.answer(seq, &2).await;
    assert_eq!(finish.await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn cut_stream_is_never_complete() {
    let (channel, mut peer) = channel().await;
    let mut numbers = channel.call::<u64>("Feed.count", &(1, 9)).receive::<u64>().await.unwrap();
    let seq = peer.receiving().await;
    peer.item(seq, &1).await;
    settle().await;
    drop(peer);
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    let error = numbers.next().await.unwrap().unwrap_err();
    assert_error!(error.rpc().unwrap(), Unavailable, Maybe, Wait);
    assert!(numbers.next().await.is_none());
    let error = numbers.finish().await.unwrap_err();
    assert_error!(error.rpc().unwrap(), Unavailable, Maybe, Wait);
}

#[tokio::test(start_paused = true)]
async fn error_after_the_first_item_is_maybe_unless_the_handler_returned_it() {
    for (sent, expected) in [
        (Execution::Refused, Execution::Maybe),
        (Execution::Maybe, Execution::Maybe),
        (Execution::Done, Execution::Done),
    ] {
        let (channel, mut peer) = channel().await;
        let mut numbers = channel.call::<u64>("Feed.count", &(1, 9)).receive::<u64>().await.unwrap();
        let seq = peer.receiving().await;
        peer.item(seq, &1).await;
        peer.fail(seq, Code::Internal, sent, "it broke").await;
        assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
        let error = numbers.next().await.unwrap().unwrap_err();
        assert_eq!((error.code(), error.execution()), (Code::Internal, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn error_of_the_method_has_its_type() {
    let (channel, mut peer) = channel().await;
    let call = channel.call_fallible::<(), String>("Feed.fail_after", &(1,));
    let mut numbers = call.receive::<u64>().await.unwrap();
    let seq = peer.receiving().await;
    peer.item(seq, &1).await;
    let status = Status::done(Code::Application, "it failed");
    let header = HeaderRef { error: Some(&status), ..HeaderRef::new(Kind::Response, seq) };
    let details = peer.codec().encode("no more").unwrap();
    peer.send(&header, details).await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    let expected = CallError::Application("no more".to_owned());
    assert_eq!(numbers.next().await.unwrap().unwrap_err(), expected);
    assert!(numbers.next().await.is_none());
    assert_eq!(numbers.finish().await.unwrap_err(), expected);
}

#[tokio::test(start_paused = true)]
async fn messages_for_calls_that_are_not_in_flight_are_ignored() {
    let (channel, mut peer) = channel().await;
    let mut numbers = channel.call::<u64>("Feed.count", &(1, 9)).receive::<u64>().await.unwrap();
    let seq = peer.receiving().await;
    // In one write, so that they come in one read: an item behind the response does not count.
    let mut bytes = Vec::new();
    for (kind, value) in [(Kind::Item, 1_u64), (Kind::Response, 1), (Kind::Item, 2), (Kind::Credit, 1 << 20)]
    {
        let body = peer.codec().encode(&value).unwrap();
        bytes.extend(peer.frames.encode(&HeaderRef::new(kind, seq), body));
    }
    peer.raw(&bytes).await;
    peer.tell(Kind::Stop, seq).await;
    let items: Vec<u64> = numbers.by_ref().map(Result::unwrap).collect().await;
    assert_eq!((items, numbers.finish().await.unwrap()), (vec![1], 1));
    peer.item(seq, &3).await;
    peer.item(farcall_protocol::Seq(99), &3).await;
    settle().await;
    assert!(channel.is_available());
    assert_eq!(channel.connection().unwrap().held_by_streams(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn item_without_credit_is_a_protocol_error() {
    let options = ConnectionOptions::default().stream_window(1000);
    let (_connection, channel, mut peer) = connect(&options, 1000).await;
    let mut blobs = channel.call::<()>("Feed.blobs", &()).receive::<farcall_protocol::Bytes>().await.unwrap();
    let seq = peer.receiving().await;
    peer.bytes(seq, 1000).await;
    peer.bytes(seq, 1000).await;
    settle().await;
    assert!(!channel.is_available());
    blobs.next().await.unwrap().unwrap();
    let error = blobs.next().await.unwrap().unwrap_err();
    assert_error!(error.rpc().unwrap(), Unavailable, Maybe, Wait);
    assert!(error.to_string().contains("broke the protocol"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn messages_that_a_server_may_not_send_are_protocol_errors() {
    for bad in [&[0, 0, 0, 3, 0x92, 9, 1, 0, 0, 0, 0][..], &[0, 0, 0, 3, 0x92, 10, 1, 0, 0, 0, 1, 0xc0]] {
        let (channel, mut peer) = channel().await;
        let mut numbers = channel.call::<()>("Feed.ticks", &()).receive::<u64>().await.unwrap();
        peer.receiving().await;
        peer.raw(bad).await;
        let error = numbers.next().await.unwrap().unwrap_err();
        assert_error!(error.rpc().unwrap(), Unavailable, Maybe, Wait);
        assert!(error.to_string().contains("broke the protocol"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn item_that_waits_for_credit_for_60_s_is_given_up() {
    let (_connection, channel, mut peer) = connect(&ConnectionOptions::default(), 1).await;
    let mut upload = channel.call::<()>("Feed.hold", &()).send_items::<u64>().await.unwrap();
    let seq = peer.streaming().await;
    upload.send(1).await.unwrap();
    let sending = tokio::spawn(async move { upload.send(2).await });
    peer.take::<u64>().await;
    let answering = async {
        loop {
            match peer.next().await.unwrap().header.kind {
                Kind::Ping => peer.say(Kind::Pong, 1).await,
                kind => return kind,
            }
        }
    };
    let begun = tokio::time::Instant::now();
    assert_eq!(answering.await, Kind::Cancel);
    let waited = begun.elapsed();
    assert!((59 * S..62 * S).contains(&waited), "{waited:?}");
    let error = sending.await.unwrap().unwrap_err();
    assert_error!(error.rpc().unwrap(), ResourceExhausted, Maybe, Write);
    peer.fail(seq, Code::Cancelled, Execution::Maybe, "cancelled").await;
    settle().await;
    assert_eq!(channel.connection().unwrap().held_by_streams(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn sender_that_does_other_things_after_its_credit_came_is_not_given_up() {
    let options = ConnectionOptions::default().stream_stall(Duration::from_secs(5));
    let (_connection, channel, mut peer) = connect(&options, 1).await;
    let mut upload = channel.call::<u64>("Feed.sum", &()).send_items::<u64>().await.unwrap();
    let seq = peer.streaming().await;
    upload.send(1).await.unwrap();
    assert!(tokio::time::timeout(S, upload.send(2)).await.is_err());
    peer.take::<u64>().await;
    peer.credit(seq, 10_000).await;
    tokio::time::sleep(8 * S).await;
    assert!(upload.send(2).await.unwrap());
    peer.take::<u64>().await;
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_open_streams_and_drain_is_seen_by_their_halves() {
    let (connection, channel, mut peer) = connect(&ConnectionOptions::default(), 1000).await;
    let mut numbers = channel.call::<u64>("Feed.count", &(1, 9)).receive::<u64>().await.unwrap();
    let seq = peer.receiving().await;
    assert!(!numbers.is_draining());
    peer.goaway(seq, "the server stops").await;
    numbers.draining().await;
    assert!(numbers.is_draining() && !channel.is_available());
    peer.expect(Kind::Goaway).await;
    let closing = tokio::spawn(connection.close());
    settle().await;
    assert!(!closing.is_finished());
    peer.item(seq, &1).await;
    peer.answer(seq, &1).await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    assert!(numbers.next().await.is_none());
    assert!(peer.next().await.is_none(), "this side has closed");
    drop(peer);
    closing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn both_halves_of_an_exchange_wait_for_the_drain() {
    let (_connection, channel, mut peer) = connect(&ConnectionOptions::default(), 1000).await;
    let exchange = channel.call::<u64>("Feed.echo", &()).exchange::<u64, u64>().await.unwrap();
    let seq = peer.streaming().await;
    assert!(tokio::time::timeout(S, exchange.draining()).await.is_err() && !exchange.is_draining());
    let (sink, items) = exchange.split();
    assert!(tokio::time::timeout(S, sink.draining()).await.is_err() && !sink.is_draining());
    assert!(tokio::time::timeout(S, items.draining()).await.is_err() && !items.is_draining());
    peer.goaway(seq, "the server stops").await;
    sink.draining().await;
    items.draining().await;
    assert!(sink.is_draining() && items.is_draining());
}

#[tokio::test(start_paused = true)]
async fn stream_above_the_goaway_is_refused() {
    let (channel, mut peer) = channel().await;
    let mut numbers = channel.call::<u64>("Feed.count", &(1, 9)).receive::<u64>().await.unwrap();
    peer.receiving().await;
    peer.goaway(farcall_protocol::Seq(0), "the server stops").await;
    let error = numbers.next().await.unwrap().unwrap_err();
    // It cannot be made elsewhere: this channel has one connection.
    assert_eq!(error.code(), Code::Unavailable);
    assert!(matches!(error.execution(), Execution::Refused | Execution::NotSent));
}
