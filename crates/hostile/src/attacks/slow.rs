//! Peers that send slowly, or stop in the middle.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use farcall::protocol::Codec;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::attack::Attack;
use super::target::{Target, begin, spawn_each, stay};
use crate::peer::socket::discard;
use crate::peer::{Offer, Request, websocket};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new(
            "frames-a-byte-at-a-time",
            "1,000 connections whose calls arrive a byte each 50 ms",
            frames_a_byte_at_a_time,
        ),
        Attack::new(
            "frames-a-byte-a-second",
            "1,000 connections with a frame of 100 bytes, a byte a second",
            frames_a_byte_a_second,
        )
        .ended_after(40),
        Attack::new(
            "handshakes-a-byte-every-5-s",
            "1,000 handshakes, a byte every 5 s",
            handshakes_a_byte_every_5_s,
        )
        .ended_after(15),
        Attack::new(
            "tls-handshakes-never-finished",
            "1,000 TLS handshakes that stop after their first bytes",
            tls_handshakes_never_finished,
        )
        .ended_after(15),
        Attack::new(
            "websocket-handshakes-never-finished",
            "1,000 WebSockets without the handshake of calls",
            websocket_handshakes_never_finished,
        )
        .ended_after(15),
    ]
}

/// A frame that arrives slowly but in time takes a connection, and no time of others.
async fn frames_a_byte_at_a_time(target: Target) -> io::Result<()> {
    let call = Request::new("Arith.multiply", &Codec::MessagePack, &json!({"a": 6, "b": 7}));
    begin().await?;
    spawn_each(1_000, |_| {
        let call = call.clone();
        async move {
            let mut peer = target.connect_reading(&Offer::default()).await?;
            loop {
                for byte in peer.encode(&call) {
                    peer.write_raw(&[byte]).await?;
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    stay().await
}

/// A frame has 30 s from its first byte, whatever arrives meanwhile.
async fn frames_a_byte_a_second(target: Target) -> io::Result<()> {
    begin().await?;
    spawn_each(1_000, |_| async move {
        let mut peer = target.connect_reading(&Offer::default()).await?;
        peer.write_raw(&100_u32.to_be_bytes()).await?;
        while peer.write_raw(&[0]).await.is_ok() {
            // The rate of the attack: a byte a second.
            sleep(Duration::from_secs(1)).await;
        }
        stay().await
    });
    stay().await
}

/// A handshake has 10 s in all.
async fn handshakes_a_byte_every_5_s(target: Target) -> io::Result<()> {
    drip(target.rpc, Offer::default().frame().into(), Duration::from_secs(5)).await
}

/// TLS is part of it. The bytes are a record of 512 bytes and its first one.
async fn tls_handshakes_never_finished(target: Target) -> io::Result<()> {
    drip(target.tls, Bytes::from_static(&[22, 3, 1, 2, 0, 1]), Duration::from_millis(10)).await
}

/// Opens 1,000 connections, sends these bytes with a pause after each, and stays.
async fn drip(address: SocketAddr, bytes: Bytes, pause: Duration) -> io::Result<()> {
    begin().await?;
    spawn_each(1_000, |_| {
        let bytes = bytes.clone();
        async move {
            let (reader, mut writer) = TcpStream::connect(address).await?.into_split();
            tokio::spawn(discard(reader));
            for byte in bytes {
                if writer.write_all(&[byte]).await.is_err() {
                    break;
                }
                sleep(pause).await;
            }
            stay().await
        }
    });
    stay().await
}

/// An upgraded connection starts its handshake in time, too.
async fn websocket_handshakes_never_finished(target: Target) -> io::Result<()> {
    begin().await?;
    let mut opened = Vec::new();
    for _ in 0..1_000 {
        opened.push(websocket::open(target.http).await?);
    }
    stay().await
}
