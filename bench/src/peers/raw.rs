//! The raw limit: tokio-util's `LengthDelimitedCodec`, a window of frames, one write a batch.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::load::{Loops, Meter};
use crate::scenario::{Scenario, Work};

type Frames = Framed<TcpStream, LengthDelimitedCodec>;

/// The size of a call with two integers in the smallest encoding of the peers.
const MULTIPLY_BYTES: usize = 16;

fn frames(stream: TcpStream) -> anyhow::Result<Frames> {
    stream.set_nodelay(true)?;
    let mut frames = Framed::new(stream, LengthDelimitedCodec::new());
    frames.set_backpressure_boundary(16 * 1024 * 1024);
    Ok(frames)
}

pub(super) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let frames = frames(listener.accept().await?.0)?;
        tokio::spawn(async move {
            // The end of a connection is the end of its measurement.
            let _ = echo(frames).await;
        });
    }
}

/// Sends back all that one read brought, in one write.
async fn echo(mut frames: Frames) -> anyhow::Result<()> {
    while let Some(frame) = frames.next().await {
        frames.feed(frame?.freeze()).await?;
        while let Some(Some(frame)) = frames.next().now_or_never() {
            frames.feed(frame?.freeze()).await?;
        }
        SinkExt::<Bytes>::flush(&mut frames).await?;
    }
    Ok(())
}

pub(super) async fn start(address: &str, scenario: Scenario, meter: &Arc<Meter>) -> anyhow::Result<Loops> {
    let mut loops = Loops::new();
    for _ in 0..scenario.connections {
        let frames = frames(TcpStream::connect(address).await?)?;
        loops.spawn(call_until_stopped(frames, scenario, Arc::clone(meter)));
    }
    Ok(loops)
}

async fn call_until_stopped(mut frames: Frames, scenario: Scenario, meter: Arc<Meter>) -> anyhow::Result<()> {
    let bytes = match scenario.work {
        Work::Multiply | Work::Record | Work::MultiplyOrBurn => MULTIPLY_BYTES,
        Work::Echo(bytes) => bytes,
    };
    let frame = Bytes::from(vec![7; bytes]);
    let mut calls = 0;
    // When each frame that is under way was sent, the oldest first: answers come in order.
    let mut sent = std::collections::VecDeque::new();
    for _ in 0..scenario.in_flight {
        frames.feed(frame.clone()).await?;
        sent.push_back(Instant::now());
    }
    SinkExt::<Bytes>::flush(&mut frames).await?;
    meter.has_begun();
    while !meter.is_stopped() {
        let mut answer = frames.next().await;
        let now = Instant::now();
        while let Some(frame_back) = answer {
            let frame_back: BytesMut = frame_back?;
            anyhow::ensure!(frame_back.len() == bytes, "{bytes} bytes came back as {}", frame_back.len());
            let began = sent.pop_front().unwrap_or(now);
            if meter.is_counting() {
                calls += 1;
                meter.record(now - began);
            }
            frames.feed(frame.clone()).await?;
            sent.push_back(now);
            answer = frames.next().now_or_never().flatten();
        }
        SinkExt::<Bytes>::flush(&mut frames).await?;
    }
    meter.count(calls);
    Ok(())
}
