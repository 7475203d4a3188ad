//! Requests of the usual form, which are handled where they were received, beside the same ones in a longer form, which are
//! not: what a client sees is the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use std::collections::BTreeMap;

use farcall_context::Context;
use farcall_protocol::{Bytes, Kind};
use farcall_server::{Server, ServerHandle};
use farcall_test_support::frames::frame;
use serde::Deserialize;
use support::{Raw, millis};
use tokio::task::yield_now;
use tokio::time::sleep;

#[derive(Deserialize)]
struct Two {
    a: i64,
    b: i64,
}

#[derive(Deserialize)]
struct Data {
    data: Bytes,
}

const METHODS: [&str; 6] = ["T.add", "T.divide", "T.echo", "T.panic", "T.later", "T.context"];

fn server() -> ServerHandle {
    let builder = Server::builder()
        .method("T.add", |two: Two| async move { two.a.wrapping_add(two.b) })
        .try_method("T.divide", |two: Two| async move { two.a.checked_div(two.b).ok_or("no number") })
        .method("T.echo", |data: Data| async move { data.data })
        .method("T.panic", |two: Two| async move {
            assert!(two.a != 1, "as it should");
            two.b
        })
        .method("T.later", |two: Two| async move {
            if two.a == 1 {
                sleep(millis(50)).await;
            } else {
                yield_now().await;
            }
            two.b
        })
        .method("T.context", |context: Context, two: Two| async move {
            (context.remaining().map(|time| time.as_millis() as u64), two.a)
        });
    builder.build().unwrap().handle()
}

/// A request with the number in the shortest form, or in one of 9 bytes.
fn request(seq: u64, name: &[u8], timeout_ms: u8, flags: u8, body: &[u8], is_usual: bool) -> Vec<u8> {
    let fields = if flags != 0 { 7 } else { 4 };
    let mut header = vec![0x90 | fields, Kind::Request as u8];
    let [.., a, b, c, d] = seq.to_be_bytes();
    match seq {
        0..=0x7f if is_usual => header.push(d),
        0x80..=0xff if is_usual => header.extend_from_slice(&[0xcc, d]),
        0x100..=0xffff if is_usual => header.extend_from_slice(&[0xcd, c, d]),
        0x1_0000..=0xffff_ffff if is_usual => header.extend_from_slice(&[0xce, a, b, c, d]),
        _ => {
            header.push(0xcf);
            header.extend_from_slice(&seq.to_be_bytes());
        }
    }
    header.push(0xa0 | u8::try_from(name.len()).unwrap());
    header.extend_from_slice(name);
    header.push(timeout_ms);
    if flags != 0 {
        header.extend_from_slice(&[0xc0, 0xc0, flags]);
    }
    [frame(&header), frame(body)].concat()
}

/// Returns arguments, most of them right.
fn arguments(random: &mut fastrand::Rng) -> Vec<u8> {
    let (a, b) = (random.u8(..3), random.u8(..128));
    let long = [&[0x81, 0xa4][..], b"data", &[0xc5, 0x08, 0x00], &[7; 2048]].concat();
    let other: [&[u8]; 14] = [
        &[0x82, 0xa1, b'b', b, 0xa1, b'a', a],
        &[0x92, a, b],
        &[0x93, a, b, 1],
        &[0x81, 0xa1, b'a', a],
        &[0x83, 0xa1, b'a', a, 0xa1, b'a', a, 0xa1, b'b', b],
        &[0x83, 0xa1, b'a', a, 0xa1, b'b', b, 0xa1, b'x', 0x91, 0xc0],
        &[0x82, 0xa1, 0xff, a, 0xa1, b'b', b],
        &[0x82, 0xd9, 1, b'a', a, 0xa1, b'b', b],
        &[0x82, 0xa1, b'a', a, 0xa1, b'b', b, 0],
        &[0x82, 0xa1, b'a', a, 0xa1],
        &[0x81, 0xa4, b'd', b'a', b't', b'a', 0xc4, 2, a, b],
        &[0xc0],
        &[],
        &long,
    ];
    if random.bool() {
        return vec![0x82, 0xa1, b'a', a, 0xa1, b'b', b];
    }
    other[random.usize(..other.len())].to_vec()
}

/// Sends the requests and then a goaway, and returns what was received, by kind and number.
async fn talk(
    server: &ServerHandle,
    requests: &[Vec<u8>],
    random: &mut fastrand::Rng,
) -> BTreeMap<(u8, u64), String> {
    let mut raw = Raw::connect(server).await;
    let bytes = requests.concat();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(random.usize(1..=rest.len()));
        raw.write(piece).await;
        yield_now().await;
        rest = later;
    }
    raw.goaway().await;
    let mut received = BTreeMap::new();
    while let Some(message) = raw.next().await {
        let key = (message.header.kind as u8, message.header.seq.0);
        assert_eq!(received.insert(key, format!("{message:?}")), None, "it comes once");
    }
    received
}

/// Calls each method until it is known to be quick: time stands still.
async fn warm(server: &ServerHandle) {
    let mut raw = Raw::connect(server).await;
    for method in METHODS {
        for _ in 0..100 {
            let args = if method == "T.echo" {
                serde_json::json!({ "data": "" })
            } else {
                serde_json::json!({ "a": 2, "b": 7 })
            };
            raw.call(method, args).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn usual_requests_are_handled_as_all_others() {
    let (usual, general) = (server(), server());
    warm(&usual).await;
    warm(&general).await;
    let mut ended = 0;
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        // Most of them pass a number from which the next ones take more bytes.
        let mut seq = [0, 0x60, 0xe0, 0xffe0, 0xffff_ffe0][random.usize(..5)];
        let mut scripts = [Vec::new(), Vec::new()];
        for number in 0..random.u64(1..40) {
            seq += random.u64(1..3);
            let mut name = METHODS[random.usize(..METHODS.len())].as_bytes();
            let (mut timeout_ms, mut flags) = (0, 0);
            if random.u8(..4) == 0 {
                timeout_ms = [1, 40, 100][random.usize(..3)];
            }
            match random.u8(..40) {
                0..=3 => flags = 4,
                4 => flags = random.u8(1..128),
                5 => name = [&b"T.none"[..], b"", b"farcall.health", b"T.ad", b"T.add2"][random.usize(..5)],
                // The others end the connection.
                6 if number > 10 => name = b"T.\xffdd",
                7 if number > 10 => seq -= 1,
                _ => {}
            }
            let body = arguments(&mut random);
            for (script, is_usual) in scripts.iter_mut().zip([true, false]) {
                script.push(request(seq, name, timeout_ms, flags, &body, is_usual));
            }
        }
        let [of_usual, of_general] = scripts;
        let seen = talk(&usual, &of_usual, &mut random.clone()).await;
        let expected = talk(&general, &of_general, &mut random).await;
        // Calls that wait when a connection is ended are answered if they come to it, which depends on the pieces.
        let is_ended = expected.keys().any(|(kind, _)| *kind == Kind::Goaway as u8);
        for key in seen.keys().chain(expected.keys()) {
            let (one, other) = (seen.get(key), expected.get(key));
            let may_miss = is_ended && key.0 == Kind::Response as u8 && (one.is_none() || other.is_none());
            assert!(one == other || may_miss, "seed {seed}: {one:?} instead of {other:?}");
        }
        ended += usize::from(is_ended);
    }
    assert!((10..200).contains(&ended), "{ended} connections were ended");
    let at_rest = |server: &ServerHandle| server.stats().iter().all(|stats| stats.in_flight == 0);
    assert!(at_rest(&usual) && at_rest(&general));
}
