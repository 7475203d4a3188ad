//! [`ConnectionIo`]: a connection's stream and the buffers on both sides of it. What the bytes say is
//! for [`super::dispatch`].

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use farcall_protocol::{Inbox, Outbox};
use farcall_transport::{BufferPool, Stream};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::task::yield_now;
use tokio_util::io::poll_read_buf;

use super::stats::Traffic;
use super::timers::Timers;
use crate::limits::READS_PER_TURN;

/// A connection's stream and buffers.
pub(super) struct ConnectionIo {
    stream: Stream,
    pub(super) inbox: Inbox<BufferPool>,
    /// Bounded by `outbox_bytes`, beyond which no request is taken, and by the responses to those
    /// that were.
    pub(super) outbox: Outbox,
    /// `true` if something was written or read since the last flush: what is read may have layers below answer.
    unflushed: bool,
    /// Bytes read since the handshake.
    pub(super) received: u64,
    /// Bytes written since the handshake.
    pub(super) sent: u64,
}

impl ConnectionIo {
    /// Creates the buffers of a stream. `input` is what was read behind the client's Option.
    pub(super) fn new(stream: Stream, input: BytesMut) -> Self {
        let inbox = Inbox::with_source(input, BufferPool);
        Self { stream, inbox, outbox: Outbox::new(), unflushed: true, received: 0, sent: 0 }
    }

    /// Returns the size of both buffers, in bytes.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.outbox.remaining() + self.inbox.held_bytes()
    }

    /// Returns the traffic since the handshake, with this number of requests.
    pub(super) const fn traffic(&self, calls: u64) -> Traffic {
        Traffic { received: self.received, sent: self.sent, calls }
    }

    /// Reads once. Ready with `false` if the peer has closed its half.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.inbox.room()))?;
        self.unflushed = true;
        self.inbox.advance(read);
        self.received += read as u64;
        Poll::Ready(Ok(read > 0))
    }

    /// Writes as much as the socket takes. Ready when nothing is left.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, timers: &mut Timers) -> Poll<io::Result<()>> {
        while self.outbox.has_remaining() {
            match self.stream.poll_write_from(cx, &mut self.outbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.unflushed = true;
                    self.sent += written as u64;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return timers.write_stalled(self.sent, self.outbox.remaining()),
            }
        }
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        self.outbox.shrink();
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => {
                self.unflushed = flushed.is_err();
                timers.write_finished();
                Poll::Ready(flushed)
            }
            Poll::Pending => timers.write_stalled(self.sent, 0),
        }
    }

    /// Checks that the peer has not closed the stream, as a peer that has closed its half may do
    /// unseen: a write of nothing fails then, and is not sent. Pending or ready otherwise.
    pub(super) fn poll_probe(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, &[])
    }

    /// Closes the sending side.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Reads and discards. Ready when the peer has closed its half.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut discarded = [0; 4096];
        for _ in 0..READS_PER_TURN {
            let mut buffer = ReadBuf::new(&mut discarded);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Has this task polled again once its thread has run the other ready tasks, and looked for new events: a thread whose
/// tasks wake themselves does so after 61 of them, which may be as many turns.
pub(super) fn yield_turn<T>(cx: &mut Context<'_>) -> Poll<T> {
    if pin!(yield_now()).poll(cx).is_ready() {
        cx.waker().wake_by_ref();
    }
    Poll::Pending
}
