//! A whole session against a client: a server that sends anything while calls of all kinds are made. Each call ends in time,
//! and nothing is left of it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farcall_client::{Channel, ConnectionOptions, RetryPolicy};
use farcall_protocol::{
    Code, Codec, Compression, Execution, Flags, HeaderRef, Kind, MaxStreams, Seq, ServerPolicy, Status,
    StreamPolicy, StreamWindow,
};
use farcall_test_support::frames::{encode, frame, read_option};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep, timeout};

use crate::input::{Input, piece};
use crate::pipes::{Pipes, in_paused_time, read_some, write};
use crate::seeds;

/// The most steps of a server.
const MAX_STEPS: usize = 64;
/// The time limit of each call.
const LIMIT: Duration = Duration::from_secs(3);
/// Longer than any limit of the client.
const END: Duration = Duration::from_secs(600);

const KINDS: [Kind; 10] = [
    Kind::Response,
    Kind::Item,
    Kind::Credit,
    Kind::Stop,
    Kind::End,
    Kind::Goaway,
    Kind::Ping,
    Kind::Pong,
    Kind::Request,
    Kind::Cancel,
];
const CODES: [Code; 6] = [
    Code::Application,
    Code::Unavailable,
    Code::ResourceExhausted,
    Code::DeadlineExceeded,
    Code::Internal,
    Code::Cancelled,
];

pub(crate) fn run(data: &[u8]) {
    in_paused_time(async {
        let mut input = Input::new(data);
        let terms = input.byte();
        let codec = if terms & 1 == 0 { Codec::MessagePack } else { Codec::Json };
        let (dialer, mut accepted) = Pipes::dialer();
        let options = ConnectionOptions::default()
            .dialer(dialer)
            .codec(codec.clone())
            .compression(Compression::built_in())
            .connect_timeout(Duration::from_secs(2))
            .max_frame_bytes(16 * 1024)
            .stream_window(1024);
        let retry = if terms & 16 == 0 { RetryPolicy::fail_fast() } else { RetryPolicy::fail_over() };
        let channel =
            Channel::builder().to("tcp@server.example:1").options(options).retry(retry).build().unwrap();
        let serving = async {
            let Some(far) = accepted.recv().await else { return };
            serve(terms, &codec, far, &mut input).await;
            // Further connections are closed at once.
            while accepted.recv().await.is_some() {}
        };
        tokio::select! {
            biased;
            () = calls(&channel) => {}
            () = serving => {}
        }
        let connection = channel.connection();
        timeout(END, channel.close()).await.expect("closing ends").unwrap_or_default();
        drop(channel);
        if let Some(connection) = connection {
            assert_eq!((connection.in_flight(), connection.held_by_streams()), (0, (0, 0, 0)));
        }
    });
}

/// Makes calls of all kinds at once, each of which ends within its time.
async fn calls(channel: &Channel) {
    let began = Instant::now();
    let arguments = json!({"n": 1});
    let call = |name| channel.call::<Value>(name, &arguments).timeout(LIMIT);
    let plain = async {
        let _ = call("T.echo").await;
        let _ = call("T.echo").idempotent().await;
    };
    let typed = async { drop(channel.call::<(u8, String)>("T.other", &arguments).timeout(LIMIT).await) };
    let noted = async { drop(call("T.note").notify().await) };
    let received = async {
        let Ok(mut items) = call("T.count").receive::<Value>().await else { return };
        for _ in 0..3 {
            if items.next().await.is_none_or(|item| item.is_err()) {
                break;
            }
        }
        let _ = items.finish().await;
    };
    let sent = async {
        let Ok(mut items) = call("T.sum").send_items::<u64>().await else { return };
        for n in 0..300 {
            if !items.send(n).await.unwrap_or(false) {
                break;
            }
        }
        let _ = items.finish().await;
    };
    let exchanged = async {
        let Ok(mut items) = call("T.exchange").exchange::<Vec<u8>, Value>().await else { return };
        let _ = items.send(vec![7; 700]).await;
        let (mut sink, stream) = items.split();
        let sending = async { while sink.send(vec![7; 700]).await.unwrap_or(false) {} };
        let taking = async {
            let _ = stream.take(4).count().await;
        };
        tokio::select! { biased; () = sending => {} () = taking => {} }
    };
    tokio::join!(plain, typed, noted, received, sent, exchanged);
    // Two calls one behind the other, and the timer's resolution.
    assert!(began.elapsed() <= 2 * LIMIT + Duration::from_millis(10), "{:?}", began.elapsed());
}

async fn serve(terms: u8, codec: &Codec, mut far: DuplexStream, input: &mut Input<'_>) {
    let Some(option) = read_option(&mut far, &mut BytesMut::new()).await else { return };
    if terms & 2 == 0 {
        let compression = if terms & 4 == 0 { Vec::new() } else { Compression::built_in() };
        let streams =
            (terms & 8 == 0).then_some(StreamPolicy::new(StreamWindow::new(1024), MaxStreams::DEFAULT));
        let policy = ServerPolicy::default().compression(compression).streams(streams);
        let hello = policy.negotiate(&option).expect("the client asks for what there is");
        write(&mut far, &frame(&ServerPolicy::encode_accept(&hello.negotiated))).await;
    } else {
        write(&mut far, &frame(input.piece())).await;
    }
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        step(codec, &mut far, input).await;
    }
}

async fn step(codec: &Codec, far: &mut DuplexStream, input: &mut Input<'_>) {
    match input.byte() % 16 {
        0..=7 => write(far, &message(codec, input)).await,
        8 => write(far, &[frame(input.piece()), frame(input.piece())].concat()).await,
        9 => write(far, input.piece()).await,
        10 => {
            // Many small items are taken in one piece.
            let seq = Seq(u64::from(input.byte() % 8));
            let item = encode(codec, &HeaderRef::new(Kind::Item, seq), &b"7"[..]);
            write(far, &item.repeat(usize::from(input.byte() % 64))).await;
        }
        11 | 12 => drop(read_some(far).await),
        // In paused time, both.
        13 => sleep(Duration::from_millis(10 * u64::from(input.byte()))).await,
        14 => sleep(Duration::from_secs(u64::from(input.byte() % 8))).await,
        _ => {
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Takes a message, with a body that its caller reads or with any other.
fn message(codec: &Codec, input: &mut Input<'_>) -> Vec<u8> {
    let kind = input.choose(&KINDS);
    let seq = match input.byte() {
        255 => u64::MAX,
        seq => u64::from(seq % 9),
    };
    let flags = input.byte();
    let mut header = HeaderRef::new(kind, Seq(seq));
    for (bit, flag) in [Flags::COMPRESSED, Flags::STARVED, Flags::STREAMING].into_iter().enumerate() {
        header.flags = if flags >> bit & 1 == 1 { header.flags.with(flag) } else { header.flags };
    }
    let status = Status::new(
        CODES[usize::from(flags >> 4) % CODES.len()],
        [Execution::NotSent, Execution::Refused, Execution::Maybe, Execution::Done][usize::from(flags >> 6)],
        "an error",
    );
    if flags & 8 != 0 {
        header.error = Some(&status);
    }
    let body = match input.byte() % 4 {
        0 => codec.encode(&json!(u64::from(input.byte()) << 6)).unwrap(),
        1 => codec.encode(&json!([input.byte(), "x"])).unwrap(),
        2 => Bytes::new(),
        _ => Bytes::copy_from_slice(input.piece()),
    };
    encode(codec, &header, body)
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let answer = |seq| [0, 0, seq, 0, 0, 7];
    let answers: Vec<u8> = (0..8).flat_map(answer).collect();
    let items: Vec<u8> = (0..8).flat_map(|seq| [10, seq, 5, 0, 2, seq, 0, 0, 200]).collect();
    let mut seeds = vec![
        [&[0, 15, 11][..], &answers].concat(),
        [&[1, 15, 11][..], &items, &[15, 11], &answers].concat(),
        [&[0, 15][..], &items, &[13, 9, 0, 3, 4, 0, 2, 0, 3, 5, 0, 2, 0, 5, 3, 0, 2], &answers].concat(),
        [&[16, 15][..], &[0, 0, 1, 0x58, 2, 0, 0, 2, 0x98, 2], &answers].concat(),
        vec![0, 14, 4],
    ];
    for codec in Codec::built_in() {
        let first = u8::from(codec == Codec::Json) | 4;
        for message in seeds::messages(&codec) {
            seeds.push([&[first, 15, 9][..], &piece(&message), &[15, 11]].concat());
        }
    }
    seeds.push([&[2][..], &piece(b"{\"status\":1}")].concat());
    seeds
}
