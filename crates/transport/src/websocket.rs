//! A stream of bytes in the binary messages of a WebSocket ([RFC 6455](https://www.rfc-editor.org/rfc/rfc6455)),
//! for clients and servers alike. The borders of messages mean nothing.
//!
//! Asking for a WebSocket, and agreeing to one, is HTTP's: here both have been done.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{FutureExt, Sink, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Bytes, Error};

use crate::stream::Stream;

/// The most that one message of ours carries, in bytes: enough for its head to cost nothing, and
/// little enough for the copy that masking needs.
const MAX_SENT: usize = 64 * 1024;
/// The number of bytes that are buffered before they are written, without a flush.
const WRITE_BUFFER: usize = 64 * 1024;
/// The size of one read, in bytes. It is allocated for every connection, idle ones too.
const READ_BUFFER: usize = 8 * 1024;
/// The largest message of a server that a client takes, in bytes. Servers of this project send
/// no larger ones than [`MAX_SENT`]; others may put a whole answer into one.
const MAX_FROM_SERVER: usize = 64 * 1024 * 1024;

/// The client's end of a WebSocket. It sends no Close when it is shut down, since there is no half
/// close: the server closes when all is answered.
pub(crate) fn client(stream: Stream) -> Stream {
    stream.wrapped(|stream| WebSocket::new(stream, Role::Client, MAX_FROM_SERVER))
}

/// The server's end of a WebSocket, over a stream whose opening has been answered.
///
/// `max_message` is the largest message that is taken, in bytes, since one is held whole before
/// any of it is read; a larger one is closed with 1009, and a text message with 1003. What is
/// written goes in messages of at most 64 KiB.
pub fn serve_websocket(stream: Stream, max_message: usize) -> Stream {
    stream.wrapped(|stream| WebSocket::new(stream, Role::Server, max_message))
}

/// Returns a server's answer to a client's `Sec-WebSocket-Key`, for `Sec-WebSocket-Accept`.
pub fn websocket_accept(key: &[u8]) -> String {
    accept_key(key)
}

pub(crate) fn accept_key(key: &[u8]) -> String {
    tungstenite::handshake::derive_accept_key(key)
}

pub(crate) fn new_key() -> String {
    tungstenite::handshake::client::generate_key()
}

/// The bytes of a WebSocket's messages.
struct WebSocket {
    inner: WebSocketStream<Stream>,
    role: Role,
    /// The rest of the last message that was not read yet.
    message: Bytes,
    state: State,
}

enum State {
    Open,
    /// The peer violated the rules and gets a Close with this code; then reading fails.
    Refusing(CloseCode, Close),
    /// A peer that was refused; what it still sends is discarded, since closing earlier could destroy the
    /// words on their way.
    Refused(CloseCode),
    /// The peer has closed.
    Ended,
}

/// The progress of a Close message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    Due,
    Queued,
}

impl WebSocket {
    fn new(stream: Stream, role: Role, max_message: usize) -> WebSocket {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            // Nothing is written past a write that is still to be done, so this is never reached.
            .max_write_buffer_size(2 * (WRITE_BUFFER + MAX_SENT))
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        let inner = WebSocketStream::from_raw_socket(stream, role, Some(config)).now_or_never();
        let inner = inner.expect("there is nothing to wait for where the handshake was made already");
        WebSocket { inner, role, message: Bytes::new(), state: State::Open }
    }

    /// Ready when there is something in `message`, or the peer has closed.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.message.is_empty() {
            match self.state {
                State::Open => {}
                State::Refusing(code, close) => {
                    ready!(self.poll_refuse(cx, code, close));
                    continue;
                }
                State::Refused(code) => {
                    ready!(self.poll_discard(cx));
                    return Poll::Ready(Err(refusal(code)));
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.message = bytes,
                Some(Ok(Message::Text(_))) => {
                    self.state = State::Refusing(CloseCode::Unsupported, Close::Due);
                }
                Some(Err(Error::Capacity(_))) => self.state = State::Refusing(CloseCode::Size, Close::Due),
                Some(Ok(Message::Close(_))) | None => {
                    self.state = State::Ended;
                    // The answer to it, as far as the socket takes it at once: the peer has closed.
                    let _ = Pin::new(&mut self.inner).poll_flush(cx);
                }
                // Pings have been answered by now.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the peer a Close with the reason. Ready when it was sent, or cannot be.
    fn poll_refuse(&mut self, cx: &mut Context<'_>, code: CloseCode, close: Close) -> Poll<()> {
        let mut inner = Pin::new(&mut self.inner);
        if close == Close::Due {
            let sent = match ready!(inner.as_mut().poll_ready(cx)) {
                Ok(()) => inner.as_mut().start_send(closing(code, reason(code))),
                Err(error) => Err(error),
            };
            if sent.is_err() {
                self.state = State::Refused(code);
                return Poll::Ready(());
            }
            self.state = State::Refusing(code, Close::Queued);
        }
        let _ = ready!(inner.as_mut().poll_flush(cx));
        self.state = State::Refused(code);
        Poll::Ready(())
    }

    /// Discards what still comes. Ready when the peer has closed. A reader of this stream gets
    /// nothing meanwhile, and so has an end to it.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        const READS_PER_TURN: usize = 8; // keeps others fair
        let mut discarded = [0; 4096];
        for _ in 0..READS_PER_TURN {
            let mut buf = ReadBuf::new(&mut discarded);
            let read = ready!(Pin::new(self.inner.get_mut()).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what `fill` makes, of `len` bytes, as one message.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Poll<io::Result<usize>> {
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut inner = Pin::new(&mut self.inner);
        ready!(inner.as_mut().poll_ready(cx)).map_err(io_error)?;
        let mut bytes = Vec::with_capacity(len);
        fill(&mut bytes);
        inner.start_send(Message::Binary(bytes.into())).map_err(io_error)?;
        Poll::Ready(Ok(len))
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_message(cx))?;
        let some = self.message.len().min(buf.remaining());
        buf.put_slice(&self.message[..some]);
        // What is empty is dropped, so that an idle connection holds no large message.
        self.message = if some == self.message.len() { Bytes::new() } else { self.message.slice(some..) };
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let some = &buf[..buf.len().min(MAX_SENT)];
        self.poll_send(cx, some.len(), |bytes| bytes.extend_from_slice(some))
    }

    /// Many slices go in one message.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = bufs.iter().map(|buf| buf.len()).sum::<usize>().min(MAX_SENT);
        self.poll_send(cx, len, |bytes| {
            for buf in bufs {
                let some = buf.len().min(len - bytes.len());
                bytes.extend_from_slice(&buf[..some]);
            }
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(io_error)
    }

    /// Sends a Close as a server; only flushes as a client.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut inner = Pin::new(&mut this.inner);
        if this.role == Role::Server {
            ready!(inner.as_mut().poll_ready(cx)).map_err(io_error)?;
            match inner.as_mut().start_send(closing(CloseCode::Normal, "")) {
                // A Close was sent before, or the peer has closed first.
                Ok(()) | Err(Error::Protocol(_) | Error::AlreadyClosed | Error::ConnectionClosed) => {}
                Err(error) => return Poll::Ready(Err(io_error(error))),
            }
        }
        inner.poll_flush(cx).map_err(io_error)
    }
}

fn closing(code: CloseCode, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

/// Returns the reason that is sent with a refusal; at most 123 bytes fit.
const fn reason(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Unsupported => "farcall is spoken in binary messages",
        _ => "the message is too large: send it as several",
    }
}

fn refusal(code: CloseCode) -> io::Error {
    let what = match code {
        CloseCode::Unsupported => "a text message came over the WebSocket, where only binary ones may",
        _ => "a message came over the WebSocket that is larger than is allowed",
    };
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        // Without a Close, the stream may be incomplete.
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            io::ErrorKind::UnexpectedEof.into()
        }
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

#[cfg(test)]
mod tests;
