//! The service `Feed`, whose methods stream.

use std::time::Duration;

use farcall_context::Context;
use farcall_protocol::{Bytes, Code, Status};
use farcall_server::{Receiver, Sender, ServerBuilder};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::world::{Counts, Waiting};

#[derive(Deserialize)]
struct Range {
    from: u64,
    to: u64,
}

#[derive(Deserialize)]
struct Ticks {
    every_ms: u64,
}

#[derive(Deserialize)]
struct Blobs {
    n: u64,
    bytes: usize,
}

#[derive(Deserialize)]
struct Nothing {}

/// Adds the service.
pub(crate) fn feed(builder: ServerBuilder, counts: &Counts) -> ServerBuilder {
    let (ticking, echoing, sending, silent) =
        (counts.clone(), counts.clone(), counts.clone(), counts.clone());
    builder
        .try_stream_out("Feed.count", async |range: Range, mut out: Sender<u64>| {
            for n in range.from..range.to {
                out.send(n).await?;
            }
            range.to.checked_sub(range.from).ok_or(Status::done(Code::InvalidArgument, "it counts upwards"))
        })
        .try_stream_out("Feed.fail", async |range: Range, mut out: Sender<u64>| {
            for n in range.from..range.to {
                out.send(n).await?;
            }
            Err::<(), _>(Status::done(Code::PermissionDenied, "it fails"))
        })
        .try_stream_in("Feed.sum", async |_: Nothing, mut items: Receiver<i64>| {
            let mut sum = 0_i64;
            while let Some(item) = items.recv().await {
                sum = sum.wrapping_add(item?);
            }
            Ok::<_, Status>(sum)
        })
        .try_stream_in("Feed.first", async |_: Nothing, mut items: Receiver<i64>| match items.recv().await {
            Some(first) => first.map_err(Status::from),
            None => Ok(0),
        })
        .try_stream_both(
            "Feed.echo",
            move |_: Nothing, mut items: Receiver<Value>, mut out: Sender<Value>| {
                let waiting = Waiting::begin(&echoing);
                async move {
                    let _waiting = waiting;
                    let mut count = 0_u64;
                    while let Some(item) = items.recv().await {
                        out.send(item?).await?;
                        count += 1;
                    }
                    Ok::<_, Status>(count)
                }
            },
        )
        .try_stream_out("Feed.ticks", move |cx: Context, ticks: Ticks, mut out: Sender<Option<String>>| {
            let waiting = Waiting::begin(&ticking);
            async move {
                let _waiting = waiting;
                loop {
                    out.send(cx.metadata("tenant").map(str::to_owned)).await?;
                    sleep(Duration::from_millis(ticks.every_ms)).await;
                    if false {
                        return Ok::<_, Status>(());
                    }
                }
            }
        })
        .try_stream_out("Feed.blobs", move |blobs: Blobs, mut out: Sender<Bytes>| {
            let waiting = Waiting::begin(&sending);
            async move {
                let _waiting = waiting;
                for _ in 0..blobs.n {
                    out.send(Bytes::from(vec![7; blobs.bytes])).await?;
                }
                Ok::<_, Status>(blobs.n)
            }
        })
        .stream_out("Feed.silent", move |_: Nothing, out: Sender<u64>| {
            let release = silent.release.clone();
            async move {
                let _out = out;
                release.cancelled().await;
                "released"
            }
        })
}
