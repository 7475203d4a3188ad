//! Messages that are wrong: numbers out of order, and mutations of right ones.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use farcall::protocol::{Codec, Kind};
use serde_json::json;
use tokio::net::TcpStream;

use super::answers::echo;
use super::attack::Attack;
use super::target::{Target, begin, spawn_each, stay};
use crate::honest::Call;
use crate::peer::http;
use crate::peer::socket::discard;
use crate::peer::{Mutator, Offer, Peer, Request};

/// The mutated messages that each of the connections sends before it rests.
const MUTATIONS_EACH: usize = 250_000;
/// The messages between two of which a connection is checked.
const BATCH: usize = 32;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new(
            "wrong-sequence-numbers",
            "numbers that are 0, repeat, fall, end, or follow a goaway, and messages of the wrong side",
            wrong_sequence_numbers,
        ),
        Attack::new("mutated-frames", "1,000,000 mutated messages on 4 connections", mutated_frames),
        Attack::new(
            "mutated-http-requests",
            "mutated HTTP requests to the gateway and to the debug page",
            mutated_http_requests,
        )
        .beside(Call::Gateway),
        Attack::new(
            "mutated-registry-requests",
            "mutated HTTP requests to a registry",
            mutated_registry_requests,
        )
        .at_registry(),
    ]
}

/// Each is a protocol error, answered with a goaway, or ignored; then its connection ends, and the next one begins.
async fn wrong_sequence_numbers(target: Target) -> io::Result<()> {
    let call = Request::new("Arith.multiply", &Codec::MessagePack, &json!({"a": 6, "b": 7}));
    begin().await?;
    spawn_each(4, |_| {
        let call = call.clone();
        async move {
            for round in 0.. {
                let mut peer = target.connect_reading(&Offer::STREAMS).await?;
                let messages = disorder(&mut peer, &call, round);
                // The server may end it in between.
                let _ = peer.write(&messages).await;
            }
            Ok(())
        }
    });
    stay().await
}

/// Returns messages in an order that the protocol forbids, or that leads nowhere.
fn disorder(peer: &mut Peer, call: &Request, round: usize) -> Vec<u8> {
    let numbered = |number: u64| call.numbered(number);
    match round % 10 {
        0 => numbered(0),
        1 => numbered(7).repeat(2),
        2 => [numbered(9), numbered(8)].concat(),
        3 => [numbered(u64::MAX), numbered(0)].concat(),
        4 => [peer.encode(call), peer.encode_bare(Kind::Goaway, 1), peer.encode(call)].concat(),
        5 => peer.encode_bare(Kind::Response, 1).repeat(16),
        6 => [Kind::Item, Kind::End, Kind::Credit, Kind::Stop].map(|kind| peer.encode_bare(kind, 1)).concat(),
        7 => peer.encode_bare(Kind::Cancel, u64::MAX).repeat(64),
        8 => [peer.encode_bare(Kind::Goaway, 0), peer.encode_bare(Kind::Goaway, u64::MAX)].concat(),
        _ => peer.encode_bare(Kind::Pong, u64::MAX).repeat(64),
    }
}

/// Messages that do not decode end their connection, and nothing else. The mutations are the same in every run.
async fn mutated_frames(target: Target) -> io::Result<()> {
    begin().await?;
    spawn_each(4, |number| async move {
        let mut mutator = Mutator::new(number as u64);
        let offer = if number % 2 == 0 { Offer::STREAMS } else { Offer::JSON };
        let calls = calls(&offer.codec);
        let mut sent = 0;
        while sent < MUTATIONS_EACH {
            let mut peer = target.connect_reading(&offer).await?;
            loop {
                let batch: Vec<u8> = (0..BATCH)
                    .flat_map(|index| {
                        let message = message(&mut peer, &calls, sent + index);
                        mutator.mutate(&message)
                    })
                    .collect();
                sent += BATCH;
                if peer.write(&batch).await.is_err() || sent >= MUTATIONS_EACH {
                    break;
                }
            }
        }
        eprintln!("{sent} mutated messages were sent");
        stay().await
    });
    stay().await
}

/// The calls of which messages are made.
fn calls(codec: &Codec) -> Vec<Request> {
    let metadata = vec![("a".to_owned(), "b".to_owned())];
    let mut calls = vec![
        Request::new("Arith.multiply", codec, &json!({"a": 6, "b": 7})),
        Request::new("Arith.multiply", codec, &json!({"a": 6, "b": 7})).metadata(metadata),
        Request::new("Text.count", codec, &json!({"text": "one two two"})),
        Request::new("Echo.sleep", codec, &json!({"ms": 1})).one_way(),
    ];
    if *codec == Codec::MessagePack {
        calls.push(echo(300));
        calls.push(Request::new("Feed.count", codec, &json!({"from": 0, "to": 9})).streaming());
        calls.push(Request::new("Feed.first", codec, &json!({"n": 3})).streaming());
    }
    calls
}

/// Returns a message of any kind.
fn message(peer: &mut Peer, calls: &[Request], index: usize) -> Vec<u8> {
    const OTHERS: [Kind; 7] =
        [Kind::Cancel, Kind::Item, Kind::Credit, Kind::End, Kind::Stop, Kind::Pong, Kind::Goaway];
    match OTHERS.get(index % (2 * OTHERS.len())) {
        Some(kind @ (Kind::Item | Kind::Credit)) => peer.encode_to_last(*kind, vec![9].into()),
        Some(kind) => peer.encode_to_last(*kind, Bytes::new()),
        None => peer.encode(&calls[index % calls.len()]),
    }
}

/// Bytes that are no request are answered with an error, and end their connection.
async fn mutated_http_requests(target: Target) -> io::Result<()> {
    let body = br#"{"a":6,"b":7}"#;
    mutated_requests(
        target,
        vec![
            http::send("POST", target.http, "/rpc/Arith.multiply", body),
            http::head("POST", target.http, "/rpc/Arith.multiply", 0, "Transfer-Encoding: chunked\r\n"),
            http::head("POST", target.http, "/rpc/Arith.multiply", 2, "Farcall-Meta-A: b\r\nExpect: 100-continue\r\n"),
            http::get(target.http, "/debug/farcall/overview.json"),
            http::get(target.http, "/metrics"),
            http::head("GET", target.http, "/_farcall_", 0, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        ],
    )
    .await
}

/// The same at a registry.
async fn mutated_registry_requests(target: Target) -> io::Result<()> {
    let instance = br#"{"addr":"tcp@10.0.0.1:7001","metadata":{"a":"b"},"ttl_ms":1000}"#;
    mutated_requests(
        target,
        vec![
            http::send("PUT", target.http, "/v1/services/b/instances/a", instance),
            http::send("POST", target.http, "/v1/heartbeats", br#"{"instances":[{"service":"b","id":"a"}]}"#),
            http::send("DELETE", target.http, "/v1/services/b/instances/a", b""),
            http::head("POST", target.http, "/registry", 0, "X-Farcall-Server: tcp@10.0.0.2:1\r\n"),
            http::get(target.http, "/v1/services/b/instances?rev=1&wait=1s&zone=a"),
            http::get(target.http, "/registry?service=b"),
        ],
    )
    .await
}

async fn mutated_requests(target: Target, requests: Vec<Vec<u8>>) -> io::Result<()> {
    begin().await?;
    spawn_each(8, |number| {
        let requests = requests.clone();
        async move {
            let mut mutator = Mutator::new(number as u64);
            loop {
                let stream = TcpStream::connect(target.http).await?;
                stream.set_nodelay(true)?;
                let (reader, mut writer) = stream.into_split();
                let reading = tokio::spawn(discard(reader));
                for request in requests.iter().cycle() {
                    let request = mutator.mutate(request);
                    let written = tokio::io::AsyncWriteExt::write_all(&mut writer, &request).await;
                    if written.is_err() || reading.is_finished() {
                        break;
                    }
                    // A server may still wait for the rest of a mutated head: give it a moment, then connect again.
                    if mutator.number(64) == 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        break;
                    }
                }
                reading.abort();
            }
        }
    });
    stay().await
}
