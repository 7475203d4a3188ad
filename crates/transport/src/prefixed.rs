//! [`Prefixed`]: a stream some of whose bytes were read already, and are read again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream behind bytes that came before it.
pub(crate) struct Prefixed<S> {
    /// The bytes that were read already; empty once they were read again.
    prefix: Vec<u8>,
    /// The number of them that were read again.
    at: usize,
    stream: S,
}

impl<S> Prefixed<S> {
    pub(crate) const fn new(prefix: Vec<u8>, stream: S) -> Self {
        Self { prefix, at: 0, stream }
    }

    /// Returns the stream behind the bytes.
    pub(crate) const fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let left = &this.prefix[this.at..];
        if left.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let some = left.len().min(buf.remaining());
        buf.put_slice(&left[..some]);
        this.at += some;
        if this.at == this.prefix.len() {
            // A connection may last for days.
            (this.prefix, this.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn prefix_is_read_before_the_stream() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b" and the rest").await.unwrap();
        drop(far);
        let mut stream = Prefixed::new(b"the beginning".to_vec(), near);
        let mut two = [0; 2];
        stream.read_exact(&mut two).await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!((&two, rest.as_str()), (b"th", "e beginning and the rest"));
    }

    #[tokio::test]
    async fn what_is_written_goes_to_the_stream() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut stream = Prefixed::new(b"prefix".to_vec(), near);
        assert!(stream.is_write_vectored());
        assert_eq!(stream.write(b"ab").await.unwrap(), 2);
        let pieces = [IoSlice::new(b"cd"), IoSlice::new(b"ef")];
        assert_eq!(stream.write_vectored(&pieces).await.unwrap(), 4);
        stream.flush().await.unwrap();
        stream.shutdown().await.unwrap();
        let mut written = String::new();
        far.read_to_string(&mut written).await.unwrap();
        assert_eq!(written, "abcdef");
    }
}
