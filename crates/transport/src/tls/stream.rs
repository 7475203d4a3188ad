//! The encrypted stream, and the lazy one of a server, whose handshake is made by the first read or
//! write.

use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::{CommonState, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::{Alpn, TlsErrorKind, names};
use crate::certificate::TlsInfo;
use crate::stream::Stream;

/// The time that input is discarded after a handshake that failed, so that closing does not destroy the
/// alert on its way: a kernel that holds unread input answers a close with a reset.
const LINGER: Duration = Duration::from_secs(1);

/// A stream whose handshake is done, as the client has it.
pub(super) fn opened<S>(stream: TlsStream<S>, alpn: Alpn) -> Result<Stream, TlsErrorKind>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let info = OnceLock::from(check(&stream, alpn)?);
    Ok(Stream::encrypted(TlsIo::Open(stream), Arc::new(info), below))
}

/// A stream whose handshake is made by the first to read or write it.
pub(super) fn accepting<S>(accept: tokio_rustls::Accept<S>, alpn: Alpn) -> Stream
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let info = Arc::new(OnceLock::new());
    let learned = Arc::clone(&info);
    let opening = Box::pin(async move {
        match accept.into_fallible().await {
            Ok(stream) => {
                let stream = TlsStream::from(stream);
                let info = check(&stream, alpn)?;
                learned.get_or_init(|| info);
                Ok(stream)
            }
            Err((error, mut below)) => {
                linger(&mut below).await;
                Err(TlsErrorKind::of_handshake(error))
            }
        }
    });
    Stream::encrypted(TlsIo::Opening(opening), info, below)
}

/// Closes this half, and waits a moment for the peer to close its own.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let read = async {
        stream.shutdown().await?;
        let mut discarded = [0; 1024];
        while stream.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether the alert arrives is the peer's concern.
    let _ = timeout(LINGER, read).await;
}

/// Returns the outcome of the handshake, if both sides agreed on enough.
fn check<S>(stream: &TlsStream<S>, alpn: Alpn) -> Result<Arc<TlsInfo>, TlsErrorKind> {
    let server_name = match stream {
        TlsStream::Server(server) => server.get_ref().1.server_name().map(str::to_owned),
        TlsStream::Client(_) => None,
    };
    let state: &CommonState = stream.get_ref().1;
    alpn.check(state.alpn_protocol())?;
    Ok(Arc::new(TlsInfo {
        version: match state.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        },
        alpn: state.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        server_name,
        resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        certificate: state.peer_certificates().and_then(|chain| chain.first()).map(|der| names::read(der)),
    }))
}

type Opening<S> = Pin<Box<dyn Future<Output = Result<TlsStream<S>, TlsErrorKind>> + Send>>;

#[expect(clippy::large_enum_variant, reason = "nearly all are open, and all are boxed as a whole")]
enum TlsIo<S> {
    /// The handshake is under way, or not begun.
    Opening(Opening<S>),
    /// Bytes can go both ways.
    Open(TlsStream<S>),
    /// The handshake failed, and so does all that follows.
    Failed(TlsErrorKind),
}

/// Returns the stream that `io` encrypts. `None` if its handshake is not done, or it encrypts something else.
fn below(io: &dyn Any) -> Option<&Stream> {
    match io.downcast_ref::<TlsIo<Stream>>()? {
        TlsIo::Open(stream) => Some(stream.get_ref().0),
        TlsIo::Opening(_) | TlsIo::Failed(_) => None,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsIo<S> {
    /// The stream, once its handshake is done.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<S>>>> {
        if let TlsIo::Opening(opening) = self {
            *self = match ready!(opening.as_mut().poll(cx)) {
                Ok(stream) => TlsIo::Open(stream),
                Err(error) => TlsIo::Failed(error),
            };
        }
        Poll::Ready(match self {
            TlsIo::Open(stream) => Ok(Pin::new(stream)),
            TlsIo::Failed(error) => Err(error.clone().into()),
            TlsIo::Opening(_) => unreachable!("it has just been opened, or has failed"),
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buf).map_err(TlsErrorKind::explain)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsIo<S> {
    /// A write of nothing goes to the stream below, so that it tells if the peer has closed that: TLS would
    /// have nothing to send.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let (true, TlsIo::Open(TlsStream::Server(stream))) = (buf.is_empty(), &mut *self) {
            return Pin::new(stream.get_mut().0).poll_write(cx, buf);
        }
        ready!(self.poll_open(cx))?.poll_write(cx, buf).map_err(TlsErrorKind::explain)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write_vectored(cx, bufs).map_err(TlsErrorKind::explain)
    }

    fn is_write_vectored(&self) -> bool {
        // It must not change while the handshake is under way; an open stream has the same.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_flush(cx).map_err(TlsErrorKind::explain)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_shutdown(cx).map_err(TlsErrorKind::explain)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn input_after_a_failed_handshake_is_discarded_until_the_peer_closes() {
        let (mut near, mut far) = duplex(1024);
        let begin = Instant::now();
        let lingering = tokio::spawn(async move {
            linger(&mut near).await;
            begin.elapsed()
        });
        for _ in 0..3 {
            far.write_all(&[7; 100]).await.unwrap();
            sleep(LINGER / 10).await;
        }
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "this half is closed at once");
        assert!(!lingering.is_finished());
        drop(far);
        assert_eq!(lingering.await.unwrap(), LINGER / 10 * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_does_not_close_after_a_failed_handshake_is_left_in_time() {
        let (mut near, mut far) = duplex(1024);
        let begin = Instant::now();
        let flood = tokio::spawn(async move {
            while far.write_all(&[7; 100]).await.is_ok() {
                sleep(LINGER / 100).await;
            }
        });
        linger(&mut near).await;
        assert_eq!(begin.elapsed(), LINGER);
        drop(near);
        flood.await.unwrap();
    }
}
