//! Messages of streams: floods of each kind, and streams whose other end does not do its part.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use farcall::protocol::stream::encode_credit;
use farcall::protocol::{Codec, Kind};
use serde_json::json;

use super::answers::ask;
use super::arguments::HOUR;
use super::attack::Attack;
use super::target::{Target, begin, spawn_each, stay};
use crate::peer::socket::connect_reluctantly;
use crate::peer::{Offer, Peer, Request};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new("stream-credits", "credits without end for a stream on 2 connections", stream_credits),
        Attack::new(
            "stream-items",
            "items without end for a call that has ended, on 2 connections",
            stream_items,
        ),
        Attack::new(
            "stream-items-beyond-credit",
            "4 connections that send items which their handler does not take",
            stream_items_beyond_credit,
        ),
        Attack::new(
            "stream-items-taken",
            "2 connections that send empty items as fast as they are taken",
            stream_items_taken,
        ),
        Attack::new("stream-ends", "ends without end on 2 connections", stream_ends),
        Attack::new("stream-stops", "stops without end on 2 connections", stream_stops),
        Attack::new(
            "streams-opened-and-stopped",
            "streams that are stopped at once, on 2 connections",
            streams_opened_and_stopped,
        ),
        Attack::new(
            "streams-never-read",
            "100 connections with 200 streams of 60 KB items each that are never read",
            streams_never_read,
        )
        .ended_after(75),
        Attack::new(
            "streams-never-fed",
            "64 connections with as many streams as they may have, whose items do not come",
            streams_never_fed,
        ),
    ]
}

/// A stream that sends nothing for an hour.
fn ticks() -> Request {
    Request::new("Feed.ticks", &Codec::MessagePack, &json!({"every_ms": HOUR})).streaming()
}

/// A credit sets a limit: a thousand of them are as good as the largest.
async fn stream_credits(target: Target) -> io::Result<()> {
    let credit = encode_credit(&Codec::MessagePack, 1 << 40).map_err(io::Error::other)?.into_bytes();
    flood_stream(target, ticks(), Kind::Credit, credit).await
}

/// Items of a call that is over are ignored: the sender may not know yet.
async fn stream_items(target: Target) -> io::Result<()> {
    let ended = Request::new("Feed.first", &Codec::MessagePack, &json!({"n": 0})).streaming();
    flood_stream(target, ended, Kind::Item, vec![1].into()).await
}

/// More than the window is a protocol error.
async fn stream_items_beyond_credit(target: Target) -> io::Result<()> {
    let hold = Request::new("Feed.hold", &Codec::MessagePack, &json!({})).streaming();
    begin().await?;
    spawn_each(4, |_| {
        let hold = hold.clone();
        async move {
            loop {
                let mut peer = target.connect_reading(&Offer::STREAMS).await?;
                peer.send(&hold).await?;
                let item = peer.encode_to_last(Kind::Item, vec![0; 1024].into());
                while peer.write(&item).await.is_ok() {}
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    stay().await
}

/// An item costs its handler's time, which is its connection's.
async fn stream_items_taken(target: Target) -> io::Result<()> {
    let first = Request::new("Feed.first", &Codec::MessagePack, &json!({"n": u64::MAX >> 1})).streaming();
    begin().await?;
    spawn_each(2, |_| {
        let first = first.clone();
        async move {
            // As many items as the first window has room for, over and over: what was granted is not read.
            loop {
                let mut peer = target.connect_reading(&Offer::STREAMS).await?;
                for _ in 0..64 {
                    if peer.send(&first).await.is_err() {
                        break;
                    }
                    let items = peer.encode_to_last(Kind::Item, vec![0xC0].into()).repeat(500);
                    let end = peer.encode_to_last(Kind::End, Bytes::new());
                    if peer.write(&[items, end].concat()).await.is_err() {
                        break;
                    }
                }
            }
        }
    });
    stay().await
}

/// An end of a call that is over is ignored.
async fn stream_ends(target: Target) -> io::Result<()> {
    let ended = Request::new("Feed.first", &Codec::MessagePack, &json!({"n": 0})).streaming();
    flood_stream(target, ended, Kind::End, Bytes::new()).await
}

/// The same for stops.
async fn stream_stops(target: Target) -> io::Result<()> {
    flood_stream(target, ticks(), Kind::Stop, Bytes::new()).await
}

/// Opens a stream on each of 2 connections, and sends a message to it without end.
async fn flood_stream(target: Target, call: Request, kind: Kind, body: Bytes) -> io::Result<()> {
    begin().await?;
    spawn_each(2, |_| {
        let (call, body) = (call.clone(), body.clone());
        async move {
            loop {
                let mut peer = target.connect_reading(&Offer::STREAMS).await?;
                peer.send(&call).await?;
                let messages = peer.encode_to_last(kind, body.clone()).repeat(256);
                while peer.write(&messages).await.is_ok() {}
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    stay().await
}

/// A stream that is stopped frees its place when its handler has ended.
async fn streams_opened_and_stopped(target: Target) -> io::Result<()> {
    let call = ticks();
    begin().await?;
    spawn_each(2, |_| {
        let call = call.clone();
        async move {
            let mut peer = target.connect_reading(&Offer::STREAMS).await?;
            loop {
                let open = peer.encode(&call);
                let stop = peer.encode_to_last(Kind::Stop, Bytes::new());
                peer.write(&[open, stop].concat()).await?;
            }
        }
    });
    stay().await
}

/// Of each stream a window is kept, of each connection an outbox, and of a reader that takes nothing both for 30 s.
async fn streams_never_read(target: Target) -> io::Result<()> {
    let blobs = json!({"n": 1_000_000, "bytes": 60_000});
    let blobs = Request::new("Feed.blobs", &Codec::MessagePack, &blobs).streaming();
    begin().await?;
    spawn_each(100, |_| {
        let blobs = blobs.clone();
        async move {
            let peer = Peer::over(connect_reluctantly(target.rpc).await?, &Offer::STREAMS).await?;
            ask(peer, &blobs, 200).await
        }
    });
    stay().await
}

/// A stream takes a place beside the calls of its connection, and the memory of its window while items are in it.
async fn streams_never_fed(target: Target) -> io::Result<()> {
    let hold = Request::new("Feed.hold", &Codec::MessagePack, &json!({})).streaming();
    begin().await?;
    spawn_each(64, |_| {
        let hold = hold.clone();
        async move {
            let mut peer = target.connect_reading(&Offer::STREAMS).await?;
            for _ in 0..2_000 {
                peer.send(&hold).await?;
            }
            stay().await
        }
    });
    stay().await
}
