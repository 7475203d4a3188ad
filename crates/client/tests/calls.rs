//! Calls over one connection: cancelling, places, sizes, answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use bytes::{Buf, Bytes};
use farcall_client::{CallError, Channel, ConnectionOptions};
use farcall_protocol::{
    Code, Codec, Compression, Execution, Flags, HeaderRef, Kind, MaxFrameBytes, Outbox, Seq, ServerPolicy,
    Status,
};
use support::{
    MEMORY, MS, S, channel, connect, connect_for, connect_with, is_one_way, metadata, rpc, settle,
};

#[tokio::test(start_paused = true)]
async fn dropped_call_sends_its_cancel_after_its_request() {
    let (channel, mut peer) = channel().await;
    // One is dropped before a byte of it was written, one after.
    drop(channel.call::<()>("A.a", &()).start());
    let call = channel.call::<()>("A.b", &()).start();
    let first = peer.request().await.header.seq;
    assert_eq!(peer.next().await.unwrap().header.seq.0, first.0);
    let second = peer.request().await.header.seq;
    drop(call);
    assert_eq!(peer.expect(Kind::Cancel).await.header.seq, second);
    assert_eq!(channel.connection().unwrap().in_flight(), 2);
    for seq in [first, second] {
        peer.fail(seq, Code::Cancelled, Execution::Refused, "cancelled").await;
    }
    settle().await;
    assert_eq!(channel.connection().unwrap().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn cancel_never_overtakes_its_request() {
    let (connection, mut peer) =
        connect_with(&ConnectionOptions::default(), &ServerPolicy::default(), 512).await;
    let channel = Channel::from(connection);
    for n in 0..300_usize {
        let call = channel.call::<()>("A.a", &(vec![0_u8; n * 7],)).start();
        if n % 3 == 0 {
            tokio::task::yield_now().await;
        }
        drop(call);
    }
    let mut seen = std::collections::HashSet::new();
    for _ in 0..600 {
        let message = peer.next().await.unwrap();
        let seq = message.header.seq;
        match message.header.kind {
            Kind::Request => assert!(seen.insert(seq)),
            _ => assert!(seen.contains(&seq), "{message:?} came before its request"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answered_call_is_not_cancelled() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<i32>("A.a", &()).start();
    let seq = peer.request().await.header.seq;
    peer.answer(seq, &1).await;
    settle().await;
    drop(call);
    peer.assert_silent(S).await;
}

#[tokio::test(start_paused = true)]
async fn call_sends_nothing_before_it_is_awaited() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<()>("A.a", &());
    peer.assert_silent(S).await;
    drop(call);
    peer.assert_silent(S).await;
}

#[tokio::test(start_paused = true)]
async fn started_call_is_sent_without_being_polled() {
    let (channel, mut peer) = connect_for(1).await;
    let first = channel.call::<i32>("A.a", &()).start();
    let second = channel.call::<i32>("A.b", &()).start();
    let third = channel.call::<i32>("A.c", &()).start();
    let seq = peer.request().await.header.seq;
    // The second is dropped while it waits for its slot, and is never sent.
    drop(second);
    peer.answer(seq, &1).await;
    let request = peer.request().await;
    assert_eq!(&*request.header.service_method, "A.c");
    // The third is dropped in flight.
    drop(third);
    assert_eq!(peer.expect(Kind::Cancel).await.header.seq, request.header.seq);
    assert_eq!(first.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_way_call_is_flagged_and_takes_no_slot() {
    let (channel, mut peer) = connect_for(1).await;
    let call = channel.call::<()>("A.a", &()).start();
    peer.request().await;
    for _ in 0..5 {
        channel.notify("A.note", &(1,)).await.unwrap();
    }
    channel.call::<()>("A.note", &(1,)).idempotent().metadata("k", "v").notify().await.unwrap();
    let mut last = Seq(1);
    for _ in 0..6 {
        let note = peer.request().await;
        assert!(is_one_way(&note) && note.header.seq > last);
        last = note.header.seq;
    }
    assert_eq!(channel.connection().unwrap().in_flight(), 1);
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_never_exceed_the_servers_limit() {
    const MAX_CALLS: usize = 3;
    let (channel, mut peer) = connect_for(MAX_CALLS).await;
    let calls: Vec<_> = (0..30).map(|n| channel.call::<u64>("A.a", &(n,)).start()).collect();
    let mut calls: Vec<_> = calls.into_iter().map(Some).collect();
    let mut open = Vec::new();
    for turn in 0..30 {
        while open.len() < MAX_CALLS && turn + open.len() < 30 {
            let request = peer.request().await;
            open.push((request.header.seq, peer.codec().decode::<[u64; 1]>(&request.body).unwrap()[0]));
        }
        peer.assert_silent(MS).await;
        let (seq, n) = open.swap_remove(turn % open.len());
        if n % 4 == 0 {
            // A cancelled call holds its slot until the server answers.
            drop(calls[n as usize].take());
            assert_eq!(peer.expect(Kind::Cancel).await.header.seq, seq);
            peer.assert_silent(MS).await;
            peer.fail(seq, Code::Cancelled, Execution::Maybe, "cancelled").await;
        } else {
            peer.answer(seq, &(n * n)).await;
        }
    }
    for (n, call) in calls.into_iter().enumerate() {
        if let Some(call) = call {
            assert_eq!(call.await.unwrap(), (n * n) as u64);
        }
    }
    assert_eq!(channel.connection().unwrap().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn too_large_request_fails_alone() {
    let terms = ServerPolicy::default().max_frame_bytes(MaxFrameBytes::new(1000));
    let (connection, mut peer) = connect_with(&ConnectionOptions::default(), &terms, 4096).await;
    let channel = Channel::from(connection);
    let body = rpc(channel.call::<()>("A.a", &("x".repeat(2000),)).await);
    assert_error!(body, ResourceExhausted, NotSent, Prepare, MEMORY);
    let header = rpc(channel.call::<()>("A.a", &()).metadata("k", "x".repeat(2000)).await);
    assert_error!(header, ResourceExhausted, NotSent, Prepare, MEMORY);
    let error = channel.notify("A.a", &("x".repeat(2000),)).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    // No slot was lost, and nothing was sent.
    assert_eq!(channel.connection().unwrap().in_flight(), 0);
    let call = channel.call::<i32>("A.b", &()).start();
    let seq = peer.request().await.header.seq;
    peer.answer(seq, &1).await;
    assert_eq!(call.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn invalid_call_fails_before_it_is_sent() {
    let (channel, mut peer) = channel().await;
    let error = rpc(channel.call::<()>("A.a", &()).metadata("Upper", "v").await);
    assert_error!(error, InvalidArgument, NotSent, Prepare);
    struct Broken;
    impl serde::Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no such thing"))
        }
    }
    let error = rpc(channel.call::<()>("A.a", &Broken).await);
    assert_error!(error, InvalidArgument, NotSent, Prepare);
    assert!(error.message().contains("no such thing"), "{error}");
    peer.assert_silent(S).await;
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct DivideError {
    by: i64,
}

#[tokio::test(start_paused = true)]
async fn application_error_is_typed() {
    let (channel, mut peer) = channel().await;
    let [good, odd] =
        [(); 2].map(|()| channel.call_fallible::<i64, DivideError>("A.divide", &(1, 0)).start());
    let status = Status::done(Code::Application, "division by zero");
    for details in [serde_json::json!({"by": 0}), serde_json::json!("what?")] {
        let seq = peer.request().await.header.seq;
        let header = HeaderRef { error: Some(&status), ..HeaderRef::new(Kind::Response, seq) };
        let body = peer.codec().encode(&details).unwrap();
        peer.send(&header, body).await;
    }
    assert_eq!(good.await, Err(CallError::Application(DivideError { by: 0 })));
    // Details of another type: only the message is left.
    let error = odd.await.unwrap_err();
    assert_error!(error.rpc().unwrap(), Application, Done, Answer, MEMORY);
    assert_eq!(error.rpc().unwrap().message(), status.message);
    assert!(error.rpc().unwrap().details::<DivideError>().unwrap().is_err());
    assert_eq!(error.rpc().unwrap().details::<String>().unwrap().unwrap(), "what?");
}

#[tokio::test(start_paused = true)]
async fn error_of_the_server_keeps_its_message_and_metadata() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<()>("A.a", &()).start();
    let seq = peer.request().await.header.seq;
    let status = Status::refused(Code::Unimplemented, "no method\n\u{1b}[2J");
    let metadata = metadata(&[("farcall-retry-after-ms", "20")]);
    let header =
        HeaderRef { error: Some(&status), metadata: Some(&metadata), ..HeaderRef::new(Kind::Response, seq) };
    peer.send(&header, Bytes::new()).await;
    let error = rpc(call.await);
    assert_error!(error, Unimplemented, Refused, Answer, MEMORY);
    assert_eq!(error.message(), status.message);
    assert_eq!(error.metadata("farcall-retry-after-ms"), Some("20"));
    assert!(error.details::<()>().is_none());
}

#[tokio::test(start_paused = true)]
async fn unknown_code_is_internal_and_unknown_execution_is_maybe() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<()>("A.a", &()).start();
    let Seq(seq) = peer.request().await.header.seq;
    // [2, seq, "", 0, [99, "odd", 77]]
    let header = [0x95, 2, seq as u8, 0xa0, 0, 0x93, 99, 0xa3, b'o', b'd', b'd', 77];
    peer.raw(&[&[0, 0, 0, header.len() as u8], &header[..], &[0; 4]].concat()).await;
    let error = rpc(call.await);
    assert_error!(error, Internal, Maybe, Answer, MEMORY);
    assert_eq!(error.message(), "odd");
}

#[tokio::test(start_paused = true)]
async fn undecodable_result_is_internal_and_done() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<i32>("A.a", &()).start();
    let seq = peer.request().await.header.seq;
    peer.answer(seq, &"seven").await;
    let error = rpc(call.await);
    assert_error!(error, Internal, Done, Answer, MEMORY);
}

#[tokio::test(start_paused = true)]
async fn bodies_are_compressed_if_negotiated_and_worthwhile() {
    let options = ConnectionOptions::default().compression(Compression::built_in());
    let (connection, mut peer) = connect(&options).await;
    let channel = Channel::from(connection);
    let text = "the same again, ".repeat(200);
    let lz4 = Compression::Lz4;
    let calls = [&*text, "short"].map(|text| channel.call::<String>("A.a", &(text,)).start());
    for compressed in [true, false] {
        let request = peer.request().await;
        assert_eq!(request.header.flags.contains(Flags::COMPRESSED), compressed);
        let mut body = request.body;
        if compressed {
            assert!(body.len() < 200);
            body = lz4.decompress(&body, MaxFrameBytes::DEFAULT).unwrap();
        }
        let [text] = peer.codec().decode::<[String; 1]>(&body).unwrap();
        let answer = peer.codec().encode(&text).unwrap();
        let header = HeaderRef::new(Kind::Response, request.header.seq);
        match lz4.compress(&answer) {
            Some(body) => peer.send(&HeaderRef { flags: Flags::COMPRESSED, ..header }, body).await,
            None => peer.send(&header, answer).await,
        }
    }
    let [long, short] = calls;
    assert_eq!((long.await.unwrap(), short.await.unwrap()), (text, "short".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn compressed_result_without_negotiation_is_internal_and_done() {
    let (channel, mut peer) = channel().await;
    let calls = [(); 2].map(|()| channel.call::<i32>("A.a", &()).start());
    let status = Status::refused(Code::PermissionDenied, "not you");
    for error in [None, Some(&status)] {
        let seq = peer.request().await.header.seq;
        let header = HeaderRef { error, flags: Flags::COMPRESSED, ..HeaderRef::new(Kind::Response, seq) };
        peer.send(&header, &b"1234 what"[..]).await;
    }
    let [result, error] = calls;
    assert_error!(rpc(result.await), Internal, Done, Answer, MEMORY);
    // An error keeps its code, even if its details cannot be read.
    assert_eq!(rpc(error.await).code(), Code::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn json_connection_sends_json() {
    let (connection, mut peer) = connect(&ConnectionOptions::default().codec(Codec::Json)).await;
    let channel = Channel::from(connection);
    let call = channel.call::<i32>("A.a", &serde_json::json!({"a": 1})).timeout(S).idempotent().start();
    let request = peer.request().await;
    assert_eq!(&request.body[..], br#"{"a":1}"#);
    assert!(request.header.flags.contains(Flags::IDEMPOTENT));
    peer.answer(request.header.seq, &1).await;
    assert_eq!(call.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn out_of_order_answers_reach_their_calls() {
    let (channel, mut peer) = channel().await;
    let calls: Vec<_> = (0..500_u64).map(|n| channel.call::<u64>("A.a", &(n,)).start()).collect();
    let mut requests = Vec::new();
    for _ in 0..500 {
        requests.push(peer.request().await);
    }
    let mut outbox = Outbox::new();
    for request in requests.iter().rev() {
        let [n] = peer.codec().decode::<[u64; 1]>(&request.body).unwrap();
        let header = HeaderRef::new(Kind::Response, request.header.seq);
        let body = peer.codec().encode(&(n * 2)).unwrap();
        outbox.push(&peer.codec(), &header, &body.into(), MaxFrameBytes::DEFAULT).unwrap();
    }
    peer.raw(&outbox.copy_to_bytes(outbox.remaining())).await;
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), n as u64 * 2);
    }
}
