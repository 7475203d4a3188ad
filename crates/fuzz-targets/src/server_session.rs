//! A whole session against a server: a client that sends anything, in any order. At its end nothing is left of it.

use std::time::Duration;

use bytes::Bytes;
use farcall_protocol::{
    ClientOffer, Codec, Compression, Flags, HeaderRef, Kind, Metadata, Seq, StreamWindow,
};
use farcall_server::{Server, ServerHandle};
use farcall_test_support::frames::{encode, frame};
use farcall_transport::{PeerAddress, Stream};
use serde_json::json;
use tokio::io::{DuplexStream, duplex};
use tokio::time::{sleep, timeout};

use crate::input::{Input, piece};
use crate::pipes::{PIPE_BYTES, in_paused_time, read_some, write};
use crate::seeds;
use crate::service::{METHODS, server};

/// The most steps of a client.
const MAX_STEPS: usize = 64;
/// Longer than any limit of the server.
const END: Duration = Duration::from_secs(600);

const KINDS: [Kind; 10] = [
    Kind::Request,
    Kind::Response,
    Kind::Cancel,
    Kind::Ping,
    Kind::Pong,
    Kind::Goaway,
    Kind::Item,
    Kind::End,
    Kind::Credit,
    Kind::Stop,
];

pub(crate) fn run(data: &[u8]) {
    in_paused_time(async {
        let server: Server = server().build().unwrap();
        let handle = server.handle();
        let serving = tokio::spawn(server.serve());
        session(&handle, &mut Input::new(data)).await;
        let at_rest = async {
            while handle.connections() > 0 || handle.in_flight() > 0 {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(END, at_rest).await.expect("the connection ends with its client");
        assert_eq!(handle.buffered_bytes(), 0, "buffers of a connection that has ended");
        assert_eq!(handle.stream_metrics().open, 0, "streams of a connection that has ended");
        serving.abort();
        assert!(serving.await.is_err_and(|error| error.is_cancelled()), "the server runs on");
    });
}

async fn session(handle: &ServerHandle, input: &mut Input<'_>) {
    let (near, mut far) = duplex(PIPE_BYTES);
    handle.serve_stream(Stream::new(near), PeerAddress::Memory);
    let terms = input.byte();
    let codec = if terms & 1 == 0 { Codec::MessagePack } else { Codec::Json };
    if terms & 2 == 0 {
        let compression = if terms & 4 == 0 { Vec::new() } else { Compression::built_in() };
        let window = (terms & 8 == 0).then_some(StreamWindow::DEFAULT);
        let offer = ClientOffer::default().codec(codec.clone()).compression(compression).streams(window);
        write(&mut far, &frame(&offer.encode().unwrap())).await;
    } else {
        write(&mut far, &frame(input.piece())).await;
    }
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            return;
        }
        step(&codec, &mut far, input).await;
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
        14 => sleep(Duration::from_secs(u64::from(input.byte()))).await,
        _ => {
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Takes a message, with a body that its method reads or with any other.
fn message(codec: &Codec, input: &mut Input<'_>) -> Vec<u8> {
    let kind = input.choose(&KINDS);
    let seq = match input.byte() {
        255 => u64::MAX,
        seq => u64::from(seq % 8),
    };
    let mut header = HeaderRef::new(kind, Seq(seq));
    let flags = input.byte();
    let all = [Flags::COMPRESSED, Flags::ONE_WAY, Flags::IDEMPOTENT, Flags::STREAMING, Flags::STARVED];
    for (bit, flag) in all.into_iter().enumerate() {
        header.flags = if flags >> bit & 1 == 1 { header.flags.with(flag) } else { header.flags };
    }
    let mut metadata = Metadata::new();
    if flags & 0x40 != 0 {
        metadata.insert("key", String::from_utf8_lossy(input.piece())).unwrap_or_default();
        header.metadata = Some(&metadata);
    }
    if flags & 0x80 != 0 {
        header.timeout_ms = u64::from(input.byte()) * 100;
    }
    if kind == Kind::Request {
        header.service_method = input.choose(&METHODS);
    }
    let body = match input.byte() % 4 {
        0 => codec.encode(&json!({"n": input.byte(), "value": [1, "x"]})).unwrap(),
        1 => codec.encode(&json!(input.byte())).unwrap(),
        2 => Bytes::new(),
        _ => Bytes::copy_from_slice(input.piece()),
    };
    encode(codec, &header, body)
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        // A call, a stream each way, items, credit, an end, and time.
        vec![0, 0, 0, 1, 0, 0, 0, 0, 15, 11],
        vec![0, 0, 0, 1, 8, 4, 0, 90, 15, 11, 0, 8, 1, 0, 3, 1, 9, 13, 9, 11],
        vec![0, 0, 0, 2, 8, 5, 0, 1, 0, 6, 2, 0, 1, 5, 10, 2, 40, 0, 7, 2, 0, 2, 15, 11],
        vec![1, 0, 0, 3, 8, 6, 0, 1, 0, 6, 3, 0, 1, 5, 15, 11, 0, 9, 3, 0, 2, 13, 1, 0, 2, 3, 0, 2],
        vec![0, 0, 0, 1, 0, 1, 0, 200, 13, 5, 0, 2, 1, 0, 2, 0, 3, 0, 0, 2, 0, 5, 0, 0, 2, 14, 9],
        vec![0, 0, 0, 1, 0x80, 1, 5, 0, 250, 14, 2, 11],
    ];
    for codec in Codec::built_in() {
        let first = u8::from(codec == Codec::Json) | 4;
        for message in seeds::messages(&codec) {
            seeds.push([&[first, 9][..], &piece(&message), &[15, 11]].concat());
        }
    }
    let option = ClientOffer::default().encode().unwrap();
    seeds.push([&[2][..], &piece(&option)].concat());
    seeds
}
