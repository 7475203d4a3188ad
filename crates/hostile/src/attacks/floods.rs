//! Floods of messages and connections that cost their sender nearly nothing.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use farcall::protocol::{Codec, Kind};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::arguments::HOUR;
use super::attack::Attack;
use super::target::{Target, begin, spawn_each, stay};
use super::time::flood;
use crate::peer::{Offer, Request};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new("pings", "pings without end on 4 connections", pings),
        Attack::new("cancels", "cancels of calls that do not exist on 2 connections", cancels),
        Attack::new("one-way-calls", "one-way calls of Arith.multiply on 2 connections", one_way_calls),
        Attack::new(
            "waiting-one-way-calls",
            "one-way calls of an hour on 64 connections",
            waiting_one_way_calls,
        ),
        Attack::new(
            "unknown-methods",
            "calls of methods that do not exist on 2 connections",
            unknown_methods,
        ),
        Attack::new(
            "malformed-arguments",
            "arguments that do not decode on 2 connections",
            malformed_arguments,
        ),
        Attack::new("panicking-calls", "calls of Echo.panic on 2 connections", panicking_calls),
        Attack::new("reserved-methods", "calls of farcall.stats and farcall.services", reserved_methods),
        Attack::new("calls-and-cancels", "calls of an hour, each cancelled at once", calls_and_cancels),
        Attack::new("short-connections", "connections that end after their handshake", short_connections),
        Attack::new("refused-handshakes", "connections whose handshake is nonsense", refused_handshakes),
    ]
}

/// More than 10 pings in 5 s are a protocol error.
async fn pings(target: Target) -> io::Result<()> {
    flood_bare(target, Kind::Ping, 4).await
}

/// A cancel of an unknown call is ignored, at the cost of its connection's time.
async fn cancels(target: Target) -> io::Result<()> {
    flood_bare(target, Kind::Cancel, 2).await
}

async fn flood_bare(target: Target, kind: Kind, count: usize) -> io::Result<()> {
    begin().await?;
    spawn_each(count, |_| async move {
        loop {
            let mut peer = target.connect_reading(&Offer::default()).await?;
            let messages = peer.encode_bare(kind, 1).repeat(256);
            while peer.write(&messages).await.is_ok() {}
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    stay().await
}

/// No answer is owed, so that the outbox does not slow the sender down.
async fn one_way_calls(target: Target) -> io::Result<()> {
    let call = Request::new("Arith.multiply", &Codec::MessagePack, &json!({"a": 6, "b": 7}));
    begin().await?;
    flood(target, 2, Offer::default(), call.one_way()).await
}

/// Such calls take places, up to the share of a connection and of a peer.
async fn waiting_one_way_calls(target: Target) -> io::Result<()> {
    let call = Request::new("Echo.sleep", &Codec::MessagePack, &json!({"ms": HOUR}));
    begin().await?;
    flood(target, 64, Offer::default(), call.one_way()).await
}

/// Refused at the cost of an error, and at most a few lines of log a second.
async fn unknown_methods(target: Target) -> io::Result<()> {
    begin().await?;
    flood(target, 2, Offer::default(), Request::raw("No.such_method", Bytes::new())).await
}

/// The same for arguments.
async fn malformed_arguments(target: Target) -> io::Result<()> {
    begin().await?;
    flood(target, 2, Offer::default(), Request::raw("Arith.multiply", vec![0xC1].into())).await
}

/// A panic is caught, and printed at most a few times a second.
async fn panicking_calls(target: Target) -> io::Result<()> {
    let call = Request::new("Echo.panic", &Codec::MessagePack, &json!({"message": "\u{1b}[2J\nforged"}));
    begin().await?;
    flood(target, 2, Offer::default(), call).await
}

/// Methods that every server has count as work of their caller.
async fn reserved_methods(target: Target) -> io::Result<()> {
    begin().await?;
    for method in ["farcall.stats", "farcall.services"] {
        let call = Request::raw(method, Bytes::new());
        tokio::spawn(flood(target, 1, Offer::default(), call));
    }
    stay().await
}

/// A cancelled call frees its place when its handler has ended, however many there are.
async fn calls_and_cancels(target: Target) -> io::Result<()> {
    let call = Request::new("Echo.sleep", &Codec::MessagePack, &json!({"ms": HOUR}));
    begin().await?;
    spawn_each(2, |_| {
        let call = call.clone();
        async move {
            let mut peer = target.connect_reading(&Offer::default()).await?;
            loop {
                let both = [peer.encode(&call), peer.encode_cancel()].concat();
                peer.write(&both).await?;
            }
        }
    });
    stay().await
}

/// Connections come and go as fast as one thread can open them.
async fn short_connections(target: Target) -> io::Result<()> {
    begin().await?;
    spawn_each(32, |_| async move {
        loop {
            // A reset of one is what a server may do.
            drop(target.connect().await);
        }
    });
    stay().await
}

/// The same without a valid handshake: refusals are short, and not all of them are logged.
async fn refused_handshakes(target: Target) -> io::Result<()> {
    begin().await?;
    spawn_each(32, |_| async move {
        loop {
            let mut stream = TcpStream::connect(target.rpc).await?;
            // The server may end it at the first bytes.
            let _ = stream.write_all(b"\0\0\0\x02{}").await;
            crate::peer::socket::discard(stream).await;
        }
    });
    stay().await
}
