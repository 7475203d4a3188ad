//! Frames one way: the limit.

use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt, TryStreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::feed::{Feed, item};

/// The bytes of frames in one write.
const WRITE: usize = 64 * 1024;

fn frames(stream: TcpStream) -> anyhow::Result<Framed<TcpStream, LengthDelimitedCodec>> {
    stream.set_nodelay(true)?;
    let mut frames = Framed::new(stream, LengthDelimitedCodec::new());
    frames.set_backpressure_boundary(2 * WRITE);
    Ok(frames)
}

pub(super) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let frames = frames(listener.accept().await?.0)?;
        tokio::spawn(async move {
            // The end of a connection is the end of its measurement.
            let _ = feed(frames).await;
        });
    }
}

/// Sends frames of the size that the first one says.
async fn feed(mut frames: Framed<TcpStream, LengthDelimitedCodec>) -> anyhow::Result<()> {
    let Some(first) = frames.next().await else { return Ok(()) };
    let bytes = u64::from_be_bytes(first?[..].try_into()?) as usize;
    let frame = item(bytes);
    loop {
        for _ in 0..WRITE.div_ceil(bytes + 4) {
            frames.feed(frame.clone()).await?;
        }
        SinkExt::<Bytes>::flush(&mut frames).await?;
    }
}

/// The address of a server: each stream is a connection.
#[derive(Clone)]
pub(super) struct Address(pub(super) String);

impl Feed for Address {
    async fn open(
        &self,
        bytes: usize,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<usize>> + Send + Unpin + 'static> {
        let mut frames = frames(TcpStream::connect(&self.0).await?)?;
        frames.send(Bytes::copy_from_slice(&(bytes as u64).to_be_bytes())).await?;
        Ok(frames.map_ok(|frame| frame.len()).map_err(Into::into))
    }

    async fn multiply(&self, _: i64, _: i64) -> anyhow::Result<i64> {
        anyhow::bail!("it is a mere socket")
    }
}
