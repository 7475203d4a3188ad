//! Answers that their reader takes slowly or not at all.

use std::io;
use std::time::Duration;

use farcall::protocol::Codec;
use serde::Serialize;

use super::arguments::MAX_BODY;
use super::attack::Attack;
use super::target::{Target, begin, spawn_each, stay};
use crate::peer::socket::{connect_reluctantly, sip};
use crate::peer::{Offer, Peer, Request};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new(
            "answers-read-a-byte-a-second",
            "200 connections that are owed 4 MiB each and read a byte a second",
            answers_read_a_byte_a_second,
        )
        .ended_after(60),
        Attack::new(
            "answers-never-read",
            "100 connections that ask for 50 x 1 MiB and never read",
            answers_never_read,
        )
        .ended_after(45),
        Attack::new(
            "websocket-answers-never-read",
            "100 WebSockets that ask for 50 x 1 MiB and never read",
            websocket_answers_never_read,
        )
        .ended_after(45),
        Attack::new(
            "small-answers-never-read",
            "1,000 connections with small calls without end whose answers are never read",
            small_answers_never_read,
        )
        .ended_after(75),
    ]
}

/// The arguments of `Echo.echo`.
#[derive(Serialize)]
struct Echo {
    data: farcall::Bytes,
}

/// Returns a call that is answered with about `length` bytes.
pub(super) fn echo(length: usize) -> Request {
    Request::new("Echo.echo", &Codec::MessagePack, &Echo { data: vec![0; length].into() })
}

/// A byte now and then is no progress: a reader has a rate to keep, and what waits for all readers has a bound.
async fn answers_read_a_byte_a_second(target: Target) -> io::Result<()> {
    let call = echo(MAX_BODY - 1024);
    begin().await?;
    spawn_each(200, |_| {
        let call = call.clone();
        async move {
            let mut peer = Peer::over(connect_reluctantly(target.rpc).await?, &Offer::default()).await?;
            let reader = peer.take_reader();
            tokio::spawn(sip(reader, Duration::from_secs(1)));
            peer.send(&call).await?;
            stay().await
        }
    });
    stay().await
}

/// A bound holds for what waits for one peer, and one for what waits for all; a reader that takes nothing has 30 s.
pub(super) async fn answers_never_read(target: Target) -> io::Result<()> {
    let call = echo(1024 * 1024);
    begin().await?;
    spawn_each(100, |_| {
        let call = call.clone();
        async move {
            let peer = Peer::over(connect_reluctantly(target.rpc).await?, &Offer::default()).await?;
            ask(peer, &call, 50).await
        }
    });
    stay().await
}

/// The same over WebSocket, whose buffer is another one.
async fn websocket_answers_never_read(target: Target) -> io::Result<()> {
    let call = echo(1024 * 1024);
    begin().await?;
    spawn_each(100, |_| {
        let call = call.clone();
        async move { ask(Peer::open_websocket(target.http, &Offer::default()).await?, &call, 50).await }
    });
    stay().await
}

/// Many readers that are owed little each: reading from them stops before their address's share is full, or refusals would
/// fill it further.
async fn small_answers_never_read(target: Target) -> io::Result<()> {
    let call = echo(100);
    begin().await?;
    spawn_each(1_000, |_| {
        let call = call.clone();
        async move {
            let peer = Peer::over(connect_reluctantly(target.rpc).await?, &Offer::default()).await?;
            ask(peer, &call, usize::MAX).await
        }
    });
    stay().await
}

/// Sends a call `count` times, reads nothing, and stays.
pub(super) async fn ask(mut peer: Peer, call: &Request, count: usize) -> io::Result<()> {
    for _ in 0..count {
        if peer.send(call).await.is_err() {
            break;
        }
    }
    stay().await
}
