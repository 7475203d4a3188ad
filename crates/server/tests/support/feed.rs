//! The service `Feed`, whose methods stream, and what a raw client needs for it.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use farcall_context::Context;
use farcall_protocol::stream::{decode_credit, encode_credit};
use farcall_protocol::{ClientOffer, Codec, Flags, HeaderRef, Kind, Message, Seq, Status, StreamWindow};
use farcall_server::{Limits, Receiver, Sender, ServerBuilder};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::{Answer, Nothing, Raw, Running, Stage, builder, serve_with, stage};

#[derive(Deserialize)]
pub struct Range {
    pub from: u64,
    pub to: u64,
}

#[derive(Deserialize)]
pub struct Blobs {
    pub n: u64,
    pub bytes: usize,
}

#[derive(Deserialize)]
pub struct Times {
    pub n: u64,
}

/// The services `T` and `Feed`.
pub fn feed(stage: &Stage) -> ServerBuilder {
    let (echoing, holding, ticking) = (stage.clone(), stage.clone(), stage.clone());
    builder(stage)
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
            move |_: Nothing, mut items: Receiver<Vec<u8>>, mut out: Sender<Vec<u8>>| {
                let alive = echoing.enter();
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
        .try_stream_out("Feed.blobs", async |blobs: Blobs, mut out: Sender<farcall_protocol::Bytes>| {
            for _ in 0..blobs.n {
                out.send(farcall_protocol::Bytes::from(vec![7; blobs.bytes])).await?;
            }
            Ok::<_, Status>(blobs.n)
        })
        .try_stream_out("Feed.ticks", move |cx: Context, every: Times, mut out: Sender<u64>| {
            let alive = ticking.enter();
            async move {
                let _alive = alive;
                let mut n = 0;
                loop {
                    out.send(n).await?;
                    n += 1;
                    tokio::select! {
                        () = sleep(Duration::from_millis(every.n)) => {}
                        () = cx.draining(), if every.n == 77 => return Ok::<_, Status>(n),
                    }
                }
            }
        })
        .try_stream_out("Feed.fail_after", async |times: Times, mut out: Sender<u64>| {
            for n in 0..times.n {
                out.send(n).await?;
            }
            Err::<(), _>(Status::done(farcall_protocol::Code::Unavailable, "it fails"))
        })
        .try_stream_in("Feed.first", async |times: Times, mut items: Receiver<i64>| {
            for _ in 0..times.n {
                if let Some(item) = items.recv().await {
                    item?;
                }
            }
            Ok::<_, Status>(times.n)
        })
        .stream_in("Feed.hold", move |_: Nothing, items: Receiver<i64>| {
            let alive = holding.enter();
            async move {
                let (_alive, _items) = (alive, items);
                std::future::pending::<()>().await;
            }
        })
}

pub fn serve_feed(limits: Limits) -> Running {
    let stage = stage();
    let builder = feed(&stage).limits(limits);
    serve_with(stage, builder)
}

/// An offer with streams, and this window for each.
pub fn offer(window: usize) -> ClientOffer {
    ClientOffer::default().streams(StreamWindow::new(window)).compression(Vec::new())
}

impl Running {
    /// Connects with this window for each stream.
    pub async fn connect_streams(&self, window: usize) -> Raw {
        Raw::connect_with(&self.handle, &offer(window)).await
    }

    /// Asserts that nothing of any stream is left.
    pub async fn assert_no_streams_left(&self) {
        self.assert_nothing_left().await;
        assert_eq!(self.stage.alive.load(SeqCst), 0);
        let held = self.handle.buffered_bytes();
        // The buffers of open connections may be larger than usual for a while.
        assert!(held < 160 * 1024, "{held} bytes are still reserved");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub async fn stream(&mut self, method: &str, args: Value) -> Seq {
        self.request_with(method, args, |header| header.flags = Flags::STREAMING).await
    }

    pub async fn item(&mut self, seq: Seq, item: &(impl serde::Serialize + ?Sized)) {
        let body = self.codec().encode(item).unwrap();
        self.send(&HeaderRef::new(Kind::Item, seq), body).await;
    }

    pub async fn end(&mut self, seq: Seq) {
        self.send(&HeaderRef::new(Kind::End, seq), Bytes::new()).await;
    }

    pub async fn stop(&mut self, seq: Seq) {
        self.send(&HeaderRef::new(Kind::Stop, seq), Bytes::new()).await;
    }

    pub async fn credit(&mut self, seq: Seq, limit: u64) {
        let body = encode_credit(self.codec(), limit).unwrap().into_bytes();
        self.send(&HeaderRef::new(Kind::Credit, seq), body).await;
    }

    /// Answers pings for so long, while nothing else comes.
    pub async fn wait(&mut self, time: Duration) {
        let received = timeout(time, self.recv()).await;
        assert!(received.is_err(), "{received:?}");
    }

    /// Receives a message of this kind.
    pub async fn expect(&mut self, kind: Kind, seq: Seq) -> Message {
        let message = self.recv().await;
        assert_eq!((message.header.kind, message.header.seq), (kind, seq), "{message:?}");
        message
    }

    pub async fn expect_item(&mut self, seq: Seq) -> Value {
        let message = self.expect(Kind::Item, seq).await;
        self.codec().decode(&message.body).unwrap()
    }

    /// Receives the response, behind a stop if one was sent.
    pub async fn expect_response_behind_stop(&mut self, seq: Seq) -> Answer {
        let mut message = self.recv().await;
        if message.header.kind == Kind::Stop {
            message = self.recv().await;
        }
        assert_eq!((message.header.kind, message.header.seq), (Kind::Response, seq), "{message:?}");
        self.answer(message)
    }

    /// Receives the response of a call, with all items and credits before it.
    pub async fn expect_end_of(&mut self, seq: Seq) -> Answer {
        loop {
            let message = self.recv().await;
            if message.header.kind == Kind::Response {
                assert_eq!(message.header.seq, seq);
                return self.answer(message);
            }
        }
    }

    pub async fn expect_credit(&mut self, seq: Seq) -> u64 {
        let message = self.expect(Kind::Credit, seq).await;
        decode_credit(self.codec(), &message.body).unwrap()
    }
}

/// The number of bytes of an item's body, in a codec.
pub fn body_len(codec: &Codec, item: &impl serde::Serialize) -> usize {
    codec.encode(item).unwrap().len()
}
