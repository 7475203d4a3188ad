//! Calls that take the time of others: floods that are answered, slow handlers, and callers that leave them behind.

use std::io;
use std::time::Duration;

use farcall::protocol::Codec;
use serde_json::json;

use super::answers::echo;
use super::arguments::{HOUR, MAX_BODY, keys, words};
use super::attack::Attack;
use super::target::{Target, begin, spawn_each, stay};
use crate::honest::Call;
use crate::peer::{Offer, Peer, Request, websocket};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new(
            "leaving-callers",
            "64 x 1,024 calls of an hour, a goaway, and the attacker leaves",
            leaving_callers,
        )
        .lasting(75),
        Attack::new(
            "goaway-and-stay",
            "2,000 connections with a call of an hour say goaway, close their half, and stay",
            goaway_and_stay,
        )
        .ended_after(130),
        Attack::new(
            "busy-neighbour",
            "2 connections with small calls as fast as they are taken",
            busy_neighbour,
        ),
        Attack::new(
            "header-bursts",
            "each second 128 calls at once with 13,000 metadata keys each",
            header_bursts,
        ),
        Attack::new("lz4-bombs", "2 connections with bodies of 16 KiB that are 4 MiB of zeros", lz4_bombs),
        Attack::new("lz4-echoes", "2 connections with Echo.echo of 4 MiB of zeros in lz4", lz4_echoes)
            .max_mb(512),
        Attack::new(
            "websocket-empty-frames",
            "3 WebSockets: endless empty fragments, empty messages, and messages of one byte",
            websocket_empty_frames,
        ),
        Attack::new("slow-method-line", "300 x Text.count of 1 MiB on one connection", slow_method_line)
            .beside(Call::Count)
            .max_mb(512),
        Attack::new("burning-calls", "200 x Echo.burn of 500 ms on 4 connections", burning_calls),
        Attack::new(
            "simultaneous-wake-ups",
            "32 connections with 512 calls each that wake at the same moment, again and again",
            simultaneous_wake_ups,
        ),
        Attack::new(
            "simultaneous-deadlines",
            "the same calls, whose deadlines pass at the same moment",
            simultaneous_deadlines,
        ),
        Attack::new(
            "burning-neighbour",
            "2 connections with Arith.multiply and 13,000 metadata keys, which is slow to decode",
            burning_neighbour,
        ),
    ]
}

/// The calls of a peer that has closed its half and left end when its host says so: Linux answers for a closed socket for a
/// minute.
async fn leaving_callers(target: Target) -> io::Result<()> {
    let call = Request::new("Echo.sleep", &Codec::MessagePack, &json!({"ms": HOUR}));
    begin().await?;
    let mut peers = Vec::new();
    for _ in 0..64 {
        let mut peer = target.connect_reading(&Offer::default()).await?;
        for _ in 0..1024 {
            peer.send(&call).await?;
        }
        peer.goaway().await?;
        peer.shutdown().await?;
        peers.push(peer);
    }
    // Time for the server to read the calls: the peers leave after that, as a client does that gives up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// A peer that waits for its last answers must show that it lives like any other.
async fn goaway_and_stay(target: Target) -> io::Result<()> {
    let call = Request::new("Echo.sleep", &Codec::MessagePack, &json!({"ms": HOUR}));
    begin().await?;
    let mut peers = Vec::new();
    for _ in 0..2_000 {
        let mut peer = target.connect().await?;
        peer.send(&call).await?;
        peer.goaway().await?;
        peer.shutdown().await?;
        peers.push(peer);
    }
    stay().await
}

/// An ordinary client that is busy: its calls wait for those of others, and not the other way round.
async fn busy_neighbour(target: Target) -> io::Result<()> {
    let call = Request::new("Arith.multiply", &Codec::MessagePack, &json!({"a": 6, "b": 7}));
    begin().await?;
    flood(target, 2, Offer::default(), call).await
}

/// A turn of a connection ends after so much time, however many messages are left.
async fn header_bursts(target: Target) -> io::Result<()> {
    let call =
        Request::new("Arith.multiply", &Codec::MessagePack, &json!({"a": 6, "b": 7})).metadata(keys(13_000));
    begin().await?;
    let mut peer = target.connect_reading(&Offer::default()).await?;
    loop {
        let burst: Vec<u8> = (0..128).flat_map(|_| peer.encode(&call)).collect();
        if peer.write(&burst).await.is_err() {
            peer = target.connect_reading(&Offer::default()).await?;
        }
        // The rate of the attack: one burst a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Without pauses between the bursts, at a method that the honest client calls too: the time of decoding a header is
/// its sender's.
async fn burning_neighbour(target: Target) -> io::Result<()> {
    let call =
        Request::new("Arith.multiply", &Codec::MessagePack, &json!({"a": 6, "b": 7})).metadata(keys(13_000));
    begin().await?;
    flood(target, 2, Offer::default(), call).await
}

/// Decompressing counts against the time of a connection's turn, and what it yields against the connection's share.
async fn lz4_bombs(target: Target) -> io::Result<()> {
    bomb(target, Request::raw("Arith.multiply", vec![0; MAX_BODY].into())).await
}

/// The same with arguments that decode, and answers that are as large.
async fn lz4_echoes(target: Target) -> io::Result<()> {
    bomb(target, echo(MAX_BODY - 1024)).await
}

async fn bomb(target: Target, call: Request) -> io::Result<()> {
    let call = call.compressed();
    begin().await?;
    flood(target, 2, Offer { compression: true, ..Offer::default() }, call).await
}

/// Frames without content cost their sender's connection time, and no memory.
async fn websocket_empty_frames(target: Target) -> io::Result<()> {
    let empty = websocket::FINAL | websocket::BINARY;
    // The one byte begins a frame of the protocol that never ends.
    let kinds: [(u8, &[u8]); 3] = [(websocket::CONTINUATION, b""), (empty, b""), (empty, b"\0")];
    begin().await?;
    spawn_each(kinds.len(), |number| async move {
        let (first, payload) = kinds[number];
        let frames = websocket::frame(first, payload).repeat(4096);
        loop {
            let mut peer = Peer::open_websocket(target.http, &Offer::default()).await?;
            peer.discard_answers();
            if first == websocket::CONTINUATION {
                peer.write_raw(&websocket::frame(websocket::BINARY, b"")).await?;
            }
            while peer.write_raw(&frames).await.is_ok() {}
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    stay().await
}

/// Slow calls wait in line by client first: those of another client do not wait for all of one's.
async fn slow_method_line(target: Target) -> io::Result<()> {
    let text = words(1024 * 1024);
    let call = Request::new("Text.count", &Codec::MessagePack, &json!({"text": text}));
    begin().await?;
    let mut peer = target.connect_reading(&Offer::default()).await?;
    for _ in 0..300 {
        peer.send(&call).await?;
    }
    stay().await
}

/// Handlers that burn leave a thread to those that do not.
async fn burning_calls(target: Target) -> io::Result<()> {
    let call = Request::new("Echo.burn", &Codec::MessagePack, &json!({"us": 500_000}));
    begin().await?;
    spawn_each(4, |_| {
        let call = call.clone();
        async move {
            let mut peer = target.connect_reading(&Offer::default()).await?;
            for _ in 0..50 {
                peer.send(&call).await?;
            }
            stay().await
        }
    });
    stay().await
}

/// The handlers of a connection are polled in turns with those of others, however many become ready at once.
async fn simultaneous_wake_ups(target: Target) -> io::Result<()> {
    let call = Request::new("Echo.sleep", &Codec::MessagePack, &json!({"ms": 400}));
    burst(target, call).await
}

/// The same for calls that end together.
async fn simultaneous_deadlines(target: Target) -> io::Result<()> {
    let call = Request::new("Echo.sleep", &Codec::MessagePack, &json!({"ms": HOUR})).timeout(400);
    burst(target, call).await
}

/// Sends bursts of calls that end 400 ms later.
async fn burst(target: Target, call: Request) -> io::Result<()> {
    begin().await?;
    spawn_each(32, |_| {
        let call = call.clone();
        async move {
            let mut peer = target.connect_reading(&Offer::default()).await?;
            let start = tokio::time::Instant::now();
            for round in 1.. {
                let burst: Vec<u8> = (0..512).flat_map(|_| peer.encode(&call)).collect();
                peer.write(&burst).await?;
                // The rate of the attack: a burst of all connections each second.
                tokio::time::sleep_until(start + Duration::from_secs(round)).await;
            }
            Ok(())
        }
    });
    stay().await
}

/// Sends a call as fast as the server takes it, on each of `count` connections, and reads the answers.
pub(super) async fn flood(target: Target, count: usize, offer: Offer, call: Request) -> io::Result<()> {
    spawn_each(count, |_| {
        let (offer, call) = (offer.clone(), call.clone());
        async move {
            loop {
                let mut peer = target.connect_reading(&offer).await?;
                loop {
                    let batch: Vec<u8> = (0..16).flat_map(|_| peer.encode(&call)).collect();
                    if peer.write(&batch).await.is_err() {
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    stay().await
}
