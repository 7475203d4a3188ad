//! The service `Feed`, whose methods stream.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farcall_context::Context;
use farcall_protocol::{Bytes, Code, Status};
use farcall_server::{Receiver, Sender, ServerBuilder};
use serde::Deserialize;
use tokio::time::sleep;

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct Range {
    from: u64,
    to: u64,
}

#[derive(Deserialize)]
struct Blobs {
    n: u64,
    bytes: usize,
}

#[derive(Deserialize)]
struct Times {
    n: u64,
}

#[derive(Deserialize)]
struct Every {
    every_ms: u64,
}

/// Counts a running handler until it returns or is dropped.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn begin(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(alive))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Adds `Feed` to a server. `alive` is the number of its handlers that run without an end: `echo`, `ticks` and `hold`.
pub fn feed(builder: ServerBuilder, alive: &Arc<AtomicUsize>) -> ServerBuilder {
    let (echoing, ticking, holding) = (Arc::clone(alive), Arc::clone(alive), Arc::clone(alive));
    builder
        .try_stream_out("Feed.count", async |range: Range, mut out: Sender<u64>| {
            for n in range.from..range.to {
                out.send(n).await?;
            }
            Ok::<_, Status>(range.to.saturating_sub(range.from))
        })
        .try_stream_in("Feed.sum", async |_: Nothing, mut items: Receiver<i64>| {
            let mut sum = 0_i64;
            while let Some(item) = items.recv().await {
                sum = sum.wrapping_add(item?);
            }
            Ok::<_, Status>(sum)
        })
        .try_stream_both(
            "Feed.echo",
            move |_: Nothing, mut items: Receiver<Bytes>, mut out: Sender<Bytes>| {
                let alive = Alive::begin(&echoing);
                async move {
                    let _alive = alive;
                    let mut count = 0_u64;
                    while let Some(item) = items.recv().await {
                        out.send(item?).await?;
                        count += 1;
                    }
                    Ok::<_, Status>(count)
                }
            },
        )
        .try_stream_out("Feed.blobs", async |blobs: Blobs, mut out: Sender<Bytes>| {
            for _ in 0..blobs.n {
                out.send(Bytes::from(vec![7; blobs.bytes])).await?;
            }
            Ok::<_, Status>(blobs.n)
        })
        .try_stream_out("Feed.ticks", move |every: Every, mut out: Sender<u64>| {
            let alive = Alive::begin(&ticking);
            async move {
                let _alive = alive;
                for n in 0.. {
                    out.send(n).await?;
                    sleep(Duration::from_millis(every.every_ms)).await;
                }
                Ok::<_, Status>(())
            }
        })
        .try_stream_out("Feed.fail_after", async |times: Times, mut out: Sender<u64>| {
            for n in 0..times.n {
                out.send(n).await?;
            }
            Err::<(), _>(Status::done(Code::Unavailable, "it fails"))
        })
        .try_stream_in("Feed.first", async |times: Times, mut items: Receiver<i64>| {
            for _ in 0..times.n {
                if let Some(item) = items.recv().await {
                    item?;
                }
            }
            Ok::<_, Status>(times.n)
        })
        .stream_in("Feed.hold", move |cx: Context, _: Nothing, items: Receiver<i64>| {
            let alive = Alive::begin(&holding);
            async move {
                let (_alive, _items, _cx) = (alive, items, cx);
                pending::<()>().await;
            }
        })
}
