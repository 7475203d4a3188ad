//! [`Stream`], the reliable byte stream that everything above this crate speaks over.
//!
//! Where its bytes come from is hidden, so that a protocol runs unchanged over TCP, a Unix
//! socket, or a pipe in memory.

use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(not(target_family = "wasm"))]
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_util::io::poll_write_buf;

use crate::certificate::TlsInfo;
#[cfg(not(target_family = "wasm"))]
use crate::hang_up;
#[cfg(feature = "http")]
use crate::prefixed::Prefixed;
use crate::scheme::Scheme;
#[cfg(not(target_family = "wasm"))]
use crate::send_buffer::{AdjustedSendBuffer, SendBuffer};

/// The parts of a [`Stream`]'s transport that it needs.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    fn as_any(&self) -> &dyn Any;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A reliable stream of bytes in both directions, whatever carries it.
///
/// Costs one allocation, and one indirect call for each read or write. It forwards vectored
/// writes, and buffers nothing.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use farcall_transport::Stream;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let (near, far) = tokio::io::duplex(1024);
/// let (mut near, mut far) = (Stream::new(near), Stream::new(far));
/// near.write_all(b"ping").await?;
/// let mut received = [0; 4];
/// far.read_exact(&mut received).await?;
/// assert_eq!(&received, b"ping");
/// # Ok(())
/// # }
/// ```
pub struct Stream {
    io: Box<dyn Io>,
    /// Filled once the handshake of TLS is done; `None` without TLS.
    tls: Option<Arc<OnceLock<Arc<TlsInfo>>>>,
    /// The scheme by which it was opened, if that is known.
    scheme: Option<Scheme>,
    /// Returns the stream that `io` encrypts; `None` if it is not an encrypted one.
    below: Option<Below>,
    /// The send buffer of the socket, if it is adjusted to what is written.
    #[cfg(not(target_family = "wasm"))]
    send_buffer: Option<AdjustedSendBuffer>,
}

/// Returns the stream that an encrypted one is made of, once its handshake is done.
type Below = fn(&dyn Any) -> Option<&Stream>;

impl Stream {
    /// Wraps anything that reads and writes.
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Stream {
        Stream {
            io: Box::new(io),
            tls: None,
            scheme: None,
            below: None,
            #[cfg(not(target_family = "wasm"))]
            send_buffer: None,
        }
    }

    /// Wraps a TCP socket, and sets the size of its send buffer if it is connected within this machine.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn tcp(socket: TcpStream, send_buffer: SendBuffer) -> Stream {
        Stream { send_buffer: send_buffer.apply(&socket), ..Stream::new(socket) }
    }

    /// Puts something around the stream that reads and writes it, and keeps what is known of it.
    #[must_use]
    pub fn wrapped<T>(self, wrap: impl FnOnce(Stream) -> T) -> Stream
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (tls, scheme) = (self.tls.clone(), self.scheme);
        Stream { tls, scheme, ..Stream::new(wrap(self)) }
    }

    /// Puts bytes back that were read from it: they are read again before those that follow. Without
    /// any, it is unchanged.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn with_prefix(self, prefix: Vec<u8>) -> Stream {
        if prefix.is_empty() { self } else { self.wrapped(|stream| Prefixed::new(prefix, stream)) }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn encrypted(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        tls: Arc<OnceLock<Arc<TlsInfo>>>,
        below: Below,
    ) -> Stream {
        Stream { tls: Some(tls), below: Some(below), ..Stream::new(io) }
    }

    /// Writes as much of `buf` as the stream takes at once, and returns the number of bytes.
    ///
    /// Many pieces are written together; for a single one, as most messages are, no list of pieces is made.
    ///
    /// # Errors
    ///
    /// Writing failed.
    pub fn poll_write_from<B: Buf>(&mut self, cx: &mut Context<'_>, buf: &mut B) -> Poll<io::Result<usize>> {
        let chunk = buf.chunk();
        #[cfg(not(target_family = "wasm"))]
        if let Some(send_buffer) = &mut self.send_buffer {
            send_buffer.note(chunk.len(), || (*self.io).as_any().downcast_ref());
        }
        if chunk.len() < buf.remaining() {
            return poll_write_buf(Pin::new(self), cx, buf);
        }
        let written = ready!(Pin::new(&mut *self.io).poll_write(cx, chunk))?;
        buf.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Returns `true` if the peer has closed its direction of the socket, or all of it, even if there is data before its
    /// end: nothing is read. `false` if that is not known, as for a pipe in memory and on other systems than Linux.
    pub fn has_peer_closed(&self) -> bool {
        // Of what is in the box: a box reads and writes, too.
        let io = (*self.io).as_any();
        #[cfg(feature = "http")]
        if let Some(prefixed) = io.downcast_ref::<Prefixed<Stream>>() {
            return prefixed.stream().has_peer_closed();
        }
        if let Some(below) = self.below {
            return below(io).is_some_and(Stream::has_peer_closed);
        }
        #[cfg(not(target_family = "wasm"))]
        if let Some(socket) = io.downcast_ref::<TcpStream>() {
            return hang_up::has_peer_closed(socket);
        }
        #[cfg(unix)]
        if let Some(socket) = io.downcast_ref::<UnixStream>() {
            return hang_up::has_peer_closed(socket);
        }
        false
    }

    /// Sets the scheme by which it was opened.
    #[must_use]
    pub fn with_scheme(self, scheme: Scheme) -> Stream {
        Stream { scheme: Some(scheme), ..self }
    }

    /// Returns the scheme of the address by which its client has dialed. `None` if it
    /// is not known, as for a pipe in memory.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// Returns the facts of TLS about the connection and its peer. `None` without TLS, or while its
    /// handshake is not done: one that was accepted is opened by the first to read or write it.
    pub fn tls(&self) -> Option<&Arc<TlsInfo>> {
        self.tls.as_ref()?.get()
    }

    /// Returns a function like [`Stream::tls`] that can be called after the stream was given away.
    pub fn tls_later(&self) -> impl Fn() -> Option<Arc<TlsInfo>> + Send + Sync + 'static {
        let tls = self.tls.clone();
        move || tls.as_ref()?.get().cloned()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A stream that takes many slices in one write.
    struct Gather(Vec<u8>);

    impl AsyncRead for Gather {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buf.put_slice(&self.0);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Gather {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            panic!("a vectored write came as a plain one");
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let before = self.0.len();
            for buf in bufs {
                self.0.extend_from_slice(buf);
            }
            Poll::Ready(Ok(self.0.len() - before))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn many_slices_leave_in_one_write() {
        let mut stream = Stream::new(Gather(Vec::new()));
        assert!(stream.is_write_vectored());
        let slices = [IoSlice::new(b"one "), IoSlice::new(b"write")];
        assert_eq!(stream.write_vectored(&slices).await.unwrap(), 9);

        let mut written = [0; 9];
        stream.read_exact(&mut written).await.unwrap();
        assert_eq!(&written, b"one write");
    }

    #[tokio::test]
    async fn many_pieces_leave_in_one_write_and_one_piece_in_a_plain_one() {
        let mut gather = Stream::new(Gather(Vec::new()));
        let mut pieces = Buf::chain(&b"one "[..], &b"write"[..]);
        assert_eq!(poll_fn(|cx| gather.poll_write_from(cx, &mut pieces)).await.unwrap(), 9);
        assert!(!pieces.has_remaining());

        let (near, mut far) = tokio::io::duplex(4);
        let (mut near, mut piece) = (Stream::new(near), &b"plain"[..]);
        assert_eq!(poll_fn(|cx| near.poll_write_from(cx, &mut piece)).await.unwrap(), 4);
        assert_eq!(piece, b"n");
        let mut written = [0; 4];
        far.read_exact(&mut written).await.unwrap();
        assert_eq!(&written, b"plai");
    }

    #[tokio::test]
    async fn peer_reads_up_to_the_shutdown() {
        let (near, far) = tokio::io::duplex(16);
        let (mut near, mut far) = (Stream::new(near), Stream::new(far));
        near.write_all(b"last").await.unwrap();
        near.shutdown().await.unwrap();

        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"last");
    }
}
