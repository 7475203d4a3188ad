//! The promises of streams, one after the other: what one stream does must not hurt another, nor any call.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use farcall_protocol::stream::item_cost;
use farcall_protocol::{Code, Execution, Kind, Message, Seq};
use farcall_server::Limits;
use farcall_transport::PeerAddress;
use serde_json::json;
use support::feed::{offer, serve_feed};
use support::{Raw, millis, none, open_from, secs};
use tokio::time::{Instant, sleep};

const MAYBE: Execution = Execution::Maybe;
const DONE: Execution = Execution::Done;

#[tokio::test(start_paused = true)]
async fn stream_that_has_credit_sends_whatever_other_streams_do() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(1000).await;
    // Their windows are used up, and nobody grants more.
    for _ in 0..200 {
        let seq = client.stream("Feed.count", json!([0, 1_000_000])).await;
        let mut spent = 0;
        while spent < 1000 {
            let message = client.expect(Kind::Item, seq).await;
            spent += item_cost(message.body.len());
        }
    }
    client.assert_silent().await;
    let seq = client.stream("Feed.count", json!([0, 1000])).await;
    let (mut spent, mut items) = (0, 0);
    loop {
        let message = client.recv().await;
        assert_eq!(message.header.seq, seq);
        if message.header.kind == Kind::Response {
            break;
        }
        (spent, items) = (spent + item_cost(message.body.len()), items + 1);
        client.credit(seq, spent + 1000).await;
    }
    assert_eq!(items, 1000);
    assert_eq!(server.handle.stream_metrics().open, 200);
}

#[tokio::test(start_paused = true)]
async fn item_of_any_legal_size_passes_any_window() {
    let server = serve_feed(Limits::default().stream_window(1).max_stream_window(1));
    let mut client = server.connect_streams(1).await;
    let seq = client.stream("Feed.echo", none()).await;
    let mut spent = 0;
    for len in [0, 100, 200_000, 4_000_000] {
        let item = farcall_protocol::Bytes::from(vec![3; len]);
        client.item(seq, &item).await;
        let (mut echoed, mut credit) = (None, 0);
        while echoed.is_none() || credit == 0 {
            let message = client.recv().await;
            match message.header.kind {
                Kind::Item => echoed = Some(message.body),
                kind => {
                    assert_eq!(kind, Kind::Credit);
                    credit = farcall_protocol::stream::decode_credit(client.codec(), &message.body).unwrap();
                }
            }
        }
        let expected = client.codec().encode(&item).unwrap();
        spent += item_cost(expected.len());
        assert_eq!((echoed.unwrap(), credit), (expected, spent + 1));
        client.credit(seq, spent + 1).await;
    }
    client.end(seq).await;
    assert_eq!(client.response().await.value(), 4);
    server.assert_no_streams_left().await;
}

#[tokio::test(start_paused = true)]
async fn receiver_holds_at_most_what_it_granted_and_one_item_more() {
    const WINDOW: usize = 64 * 1024;
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(WINDOW).await;
    let seq = client.stream("Feed.hold", none()).await;
    sleep(secs(1)).await;
    assert!(server.handle.buffered_bytes() >= WINDOW, "what is granted is reserved");
    // The sender spends all but a byte, and then one item that is far larger.
    let body = |cost: usize| farcall_protocol::Bytes::from(vec![0; cost - 64 - 5]);
    let first = client.codec().encode(&body(WINDOW - 1)).unwrap();
    let last = client.codec().encode(&body(1_000_000)).unwrap();
    let left = WINDOW as u64 - item_cost(first.len());
    assert!(left > 0, "{left}");
    for item in [first, last.clone()] {
        client.send(&farcall_protocol::HeaderRef::new(Kind::Item, seq), item).await;
    }
    sleep(secs(1)).await;
    let held = server.handle.buffered_bytes();
    assert!(held >= 1_000_000, "what came beyond it is counted, too: {held}");
    client.send(&farcall_protocol::HeaderRef::new(Kind::Item, seq), last).await;
    client.assert_goaway(1, Code::InvalidArgument).await;
    client.assert_closed().await;
    server.assert_no_streams_left().await;
}

#[tokio::test(start_paused = true)]
async fn neither_side_stops_reading_because_of_streams() {
    // Even if nothing may wait for the peer but items.
    // The window has room for all items, however late a busy machine runs their handler.
    let server = serve_feed(Limits::default().outbox_bytes(1).stream_window(4 << 20));
    let mut client = server.connect_streams(1 << 30).await;
    let blobs = client.stream("Feed.blobs", json!({"n": 1_000_000, "bytes": 10_000})).await;
    // The client reads nothing, and the server still takes all that it sends.
    let sum = client.stream("Feed.sum", none()).await;
    for n in 0..50_000 {
        client.item(sum, &n).await;
        if n % 500 == 0 {
            sleep(millis(1)).await;
        }
    }
    client.end(sum).await;
    while server.handle.in_flight() > 1 {
        tokio::task::yield_now().await;
    }
    // The answer waits for at most 128 KiB of items, and what is in the pipe.
    let mut items = 0;
    loop {
        let message = client.recv().await;
        match (message.header.kind, message.header.seq) {
            (Kind::Item, seq) => {
                assert_eq!(seq, blobs);
                items += message.body.len();
            }
            (Kind::Credit, seq) => assert_eq!(seq, sum),
            (kind, seq) => {
                assert_eq!((kind, seq), (Kind::Response, sum));
                break;
            }
        }
    }
    let most = 2 * 128 * 1024 + support::PIPE + 20_000;
    assert!(items <= most, "{items} bytes of items went before the answer");
    client.cancel(blobs).await;
    client.expect_end_of(blobs).await.assert_error(Code::Cancelled, MAYBE);
    server.assert_no_streams_left().await;
}

#[tokio::test(start_paused = true)]
async fn items_that_wait_for_peers_are_bounded_for_each_address() {
    const MIB: usize = 1024 * 1024;
    const CLIENTS: usize = 20;
    let limits = Limits::default().buffered_bytes(64 * MIB).buffered_bytes_per_peer(16 * MIB);
    let server = serve_feed(limits);
    let peer = PeerAddress::Tcp(([10, 0, 0, 1], 7).into());
    let mut unread = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Raw::shake(open_from(&server.handle, peer), &offer(1 << 30)).await.unwrap();
        for _ in 0..40 {
            client.stream("Feed.blobs", json!({"n": 1_000_000, "bytes": 20_000})).await;
        }
        unread.push(client);
        sleep(millis(1)).await;
    }
    // Without a bound, 64 KiB and an item of each stream: 67 MB. Each connection may have its next item, and its outbox.
    let most = 16 * MIB + CLIENTS * (2 * 128 * 1024 + 20_000);
    let held = server.handle.buffered_bytes();
    assert!(held > 10 * MIB && held <= most, "{held} bytes are held, of {most}");
    // Those that read get their items, one after the other.
    let reading = unread.last_mut().unwrap();
    let mut items = 0;
    while items < 500 {
        items += usize::from(reading.recv().await.header.kind == Kind::Item);
    }
    let held = server.handle.buffered_bytes();
    assert!(held <= most, "{held} bytes are held, of {most}");
}

#[tokio::test(start_paused = true)]
async fn every_stream_ends_as_exactly_one_of_complete_failed_cancelled() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(65536).await;
    // Complete: all items, then the result.
    let seq = client.stream("Feed.count", json!([0, 3])).await;
    for n in 0..3 {
        assert_eq!(client.expect_item(seq).await, n);
    }
    assert_eq!(client.response().await.value(), 3);
    // Failed: the items before the error are delivered before it.
    let seq = client.stream("Feed.fail_after", json!({"n": 2})).await;
    for n in 0..2 {
        assert_eq!(client.expect_item(seq).await, n);
    }
    client.response().await.assert_error(Code::Unavailable, DONE);
    // Cancelled: a client that is cut off in the middle of its items is no complete upload.
    let seq = client.stream("Feed.sum", none()).await;
    client.item(seq, &1).await;
    client.cancel(seq).await;
    client.response().await.assert_error(Code::Cancelled, MAYBE);
    client.stream("Feed.echo", none()).await;
    drop(client);
    server.assert_no_streams_left().await;
    let stats = server.handle.stats();
    let echo = stats.iter().find(|stats| stats.name == "Feed.echo").unwrap();
    assert_eq!((echo.calls, echo.errors), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn dropping_either_half_is_enough() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(100).await;
    // The handler drops its receiver when it ends: what the client still sends is ignored.
    let seq = client.stream("Feed.first", json!({"n": 1})).await;
    for n in 0..20 {
        client.item(seq, &n).await;
    }
    assert_eq!(client.expect_end_of(seq).await.value(), 1);
    client.end(seq).await;
    // The client takes no more items, and still gets the response.
    let seq = client.stream("Feed.count", json!([0, 1_000_000])).await;
    client.expect(Kind::Item, seq).await;
    client.stop(seq).await;
    let answer = client.expect_end_of(seq).await;
    assert_eq!(answer.assert_error(Code::Cancelled, DONE), "the caller takes no more items");
    // Many streams, dropped at any point.
    for n in 0..300_u64 {
        let seq = client.stream("Feed.echo", none()).await;
        let bytes = farcall_protocol::Bytes::from(vec![0; 30]);
        for _ in 0..n % 4 {
            client.item(seq, &bytes).await;
        }
        match n % 3 {
            0 => client.stop(seq).await,
            1 => client.cancel(seq).await,
            _ => {}
        }
        client.end(seq).await;
        if n % 3 == 2 {
            client.credit(seq, 1 << 20).await;
        }
        client.expect_end_of(seq).await;
    }
    server.assert_no_streams_left().await;
    assert_eq!(server.handle.stream_metrics().open, 0);
}

#[tokio::test(start_paused = true)]
async fn call_beside_a_stream_that_saturates_the_connection_waits_for_at_most_128_kib_of_items() {
    const ITEM: usize = 10_000;
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(1 << 30).await;
    let blobs = client.stream("Feed.blobs", json!({"n": 1_000_000, "bytes": ITEM})).await;
    let mut most = 0;
    for n in 0..200 {
        // Until all buffers between the two are full of items.
        sleep(millis(1)).await;
        let call = client.request("T.echo", json!({"text": n.to_string()})).await;
        let mut items = 0;
        let answer = loop {
            let message = client.recv().await;
            if message.header.kind == Kind::Response {
                break message;
            }
            assert_eq!(message.header.seq, blobs);
            items += message.body.len();
        };
        assert_eq!(answer.header.seq, call);
        most = most.max(items);
    }
    // In addition to what is in the pipe, as a kernel's buffer would be, and in the client's own.
    let limit = 128 * 1024 + 2 * support::PIPE + 2 * ITEM;
    assert!((support::PIPE / 2..=limit).contains(&most), "{most} bytes");
    client.cancel(blobs).await;
    client.expect_end_of(blobs).await.assert_error(Code::Cancelled, MAYBE);
    server.assert_no_streams_left().await;
}

#[tokio::test(start_paused = true)]
async fn credit_and_pong_leave_before_responses_that_wait() {
    const RESPONSES: usize = 30;
    const BYTES: usize = 100_000;
    // The pipe, the responses whose writing has begun, and one that is read.
    const MAX_BEFORE: usize = support::PIPE + 128 * 1024 + BYTES;
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(64 * 1024).await;
    let sum = client.stream("Feed.sum", none()).await;
    for _ in 0..RESPONSES {
        client.request("T.big", json!({"n": BYTES})).await;
    }
    sleep(millis(10)).await;
    let waiting = server.handle.buffered_bytes();
    assert!(waiting > (RESPONSES - 2) * BYTES, "{waiting}: the client reads nothing");
    // More than half of the window.
    for n in 0..600 {
        client.item(sum, &n).await;
    }
    client.send(&farcall_protocol::HeaderRef::new(Kind::Ping, Seq(77)), Vec::new()).await;
    sleep(millis(10)).await;
    let (mut came, mut before, mut responses) = (Vec::new(), 0, 0);
    while responses < RESPONSES {
        let Message { header, body, .. } = client.recv().await;
        match header.kind {
            Kind::Response => {
                assert_eq!(body.len(), client.codec().encode(&"x".repeat(BYTES)).unwrap().len());
                responses += 1;
                before += if came.len() < 2 { body.len() } else { 0 };
            }
            kind => came.push((kind, header.seq)),
        }
    }
    came.sort_by_key(|(kind, _)| *kind == Kind::Pong);
    assert_eq!(came, [(Kind::Credit, sum), (Kind::Pong, Seq(77))]);
    assert!(before <= MAX_BEFORE, "{before} bytes of responses came first");
    client.end(sum).await;
    assert_eq!(client.response().await.value(), (0..600).sum::<i64>());
    server.assert_no_streams_left().await;
}

#[tokio::test(start_paused = true)]
async fn peer_that_takes_nothing_is_noticed_within_a_stated_time() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(1).await;
    let began = Instant::now();
    let seq = client.stream("Feed.count", json!([0, 1_000_000])).await;
    let answer = client.expect_end_of(seq).await;
    let said = answer.assert_error(Code::ResourceExhausted, MAYBE);
    assert!(said.contains("stream_stall"), "{said}");
    assert!((60..62).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // One that takes an item now and then is not.
    let seq = client.stream("Feed.count", json!([0, 30])).await;
    let mut spent = 0;
    for n in 0..30 {
        let message = client.expect(Kind::Item, seq).await;
        spent += item_cost(message.body.len());
        if n < 29 {
            client.wait(secs(50)).await;
            client.credit(seq, spent + 1).await;
        }
    }
    assert_eq!(client.response().await.value(), 30);
    server.assert_no_streams_left().await;
}

#[tokio::test(start_paused = true)]
async fn server_that_drains_is_noticed_within_a_stated_time() {
    let server = serve_feed(Limits::default().drain_timeout(secs(5)));
    let mut client = server.connect_streams(65536).await;
    let polite = client.stream("Feed.ticks", json!({"n": 77})).await;
    client.expect_item(polite).await;
    let endless = client.stream("Feed.hold", none()).await;
    client.call("T.echo", json!({"text": "both have begun"})).await.value();
    let began = Instant::now();
    server.handle.stop();
    client.expect(Kind::Goaway, Seq(3)).await;
    // A handler that waits for the drain ends by itself.
    client.expect_end_of(polite).await.value();
    let answer = client.expect_end_of(endless).await;
    answer.assert_error(Code::Unavailable, MAYBE);
    assert_eq!(answer.message.header.metadata.as_ref().unwrap().get("farcall-resume"), Some("1"));
    assert!((5..7).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    client.assert_closed().await;
    server.serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn connection_that_has_grown_old_takes_no_more_calls() {
    let limits = Limits::default().max_connection_age(secs(1000)).connection_age_grace(secs(20));
    let server = serve_feed(limits);
    let mut client = server.connect_streams(65536).await;
    let began = Instant::now();
    let polite = client.stream("Feed.ticks", json!({"n": 77})).await;
    let endless = client.stream("Feed.hold", none()).await;
    let mut message = client.recv().await;
    let mut spent = 0;
    while message.header.kind == Kind::Item {
        spent += item_cost(message.body.len());
        client.credit(polite, spent + 65536).await;
        message = client.recv().await;
    }
    assert_eq!((message.header.kind, message.header.seq), (Kind::Goaway, endless));
    let age = began.elapsed().as_secs();
    assert!((900..=1101).contains(&age), "{age}");
    client.expect_end_of(polite).await.value();
    let answer = client.expect_end_of(endless).await;
    answer.assert_error(Code::Unavailable, MAYBE);
    assert_eq!(answer.message.header.metadata.as_ref().unwrap().get("farcall-resume"), Some("1"));
    assert!(began.elapsed().as_secs() - age <= 21);
    client.assert_closed().await;
    // Others are served.
    let mut other = Raw::connect(&server.handle).await;
    assert_eq!(other.call("T.echo", json!({"text": "on"})).await.value(), "on");
}

#[tokio::test(start_paused = true)]
async fn window_grows_while_its_sender_waits_and_shrinks_again() {
    let server = serve_feed(Limits::default().stream_window(1000).max_stream_window(8000));
    let mut client = server.connect_streams(1 << 20).await;
    let seq = client.stream("Feed.echo", none()).await;
    let item = farcall_protocol::Bytes::from(vec![0; 100]);
    let body = client.codec().encode(&item).unwrap();
    let (mut spent, mut limit, mut widest) = (0, 1000, 0);
    for _ in 0..2000 {
        let mut flags = farcall_protocol::Flags::NONE;
        while spent >= limit {
            let message = client.recv().await;
            if message.header.kind == Kind::Credit {
                limit = farcall_protocol::stream::decode_credit(client.codec(), &message.body).unwrap();
                flags = farcall_protocol::Flags::STARVED;
            }
        }
        widest = widest.max(limit - spent);
        let header =
            farcall_protocol::HeaderRef { flags, ..farcall_protocol::HeaderRef::new(Kind::Item, seq) };
        client.send(&header, body.clone()).await;
        spent += item_cost(body.len());
    }
    assert!((4000..=8000).contains(&widest), "{widest}");
    let window = |server: &support::Running| server.handle.overview().streams[0].window;
    assert_eq!(window(&server), Some(8000));
    while let Ok(message) = tokio::time::timeout(secs(45), client.recv()).await {
        assert_ne!(message.header.kind, Kind::Response);
    }
    assert_eq!(window(&server), Some(1000));
    client.end(seq).await;
    assert_eq!(client.expect_end_of(seq).await.value(), 2000);
    server.assert_no_streams_left().await;
}

#[tokio::test(start_paused = true)]
async fn stream_for_whose_window_there_is_no_room_is_refused() {
    let limits = Limits::default().buffered_bytes(400 * 1024).buffered_bytes_per_connection(300 * 1024);
    let server = serve_feed(limits);
    let mut client = server.connect_streams(65536).await;
    for _ in 0..4 {
        client.stream("Feed.hold", none()).await;
    }
    client.stream("Feed.hold", none()).await;
    let answer = client.response().await;
    let said = answer.assert_error(Code::ResourceExhausted, Execution::Refused);
    assert!(said.contains("share of this connection"), "{said}");
    // One that takes no items needs no window.
    let seq = client.stream("Feed.count", json!([0, 1])).await;
    client.expect_item(seq).await;
    assert_eq!(client.response().await.value(), 1);
    client.cancel(Seq(1)).await;
    client.expect_end_of(Seq(1)).await;
    client.stream("Feed.hold", none()).await;
    client.assert_silent().await;
}
