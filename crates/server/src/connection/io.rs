//! [`ConnectionIo`]: a connection's stream and the buffers on both sides of it. What the bytes say is
//! for [`super::dispatch`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use farcall_protocol::{Inbox, Outbox};
use farcall_transport::{BufferPool, Stream};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::stats::Traffic;
use super::timers::Timers;
use crate::limits::{Limits, READS_PER_TURN};
use crate::memory_budget::GUARANTEED_BYTES;

/// The most bytes whose writing begins while more messages wait, unless the first one is larger: what has to go before
/// responses waits for these.
const MAX_BEGUN: usize = 128 * 1024;

/// The bytes that go before those of the outbox. They count in `outbox_bytes`.
#[derive(Debug, Default)]
struct Front {
    /// The rest of the messages whose writing has begun. Empty while the peer takes all at once.
    begun: Outbox,
    /// Whole messages that go before responses: pongs, pings, goaways, and the credits and stops of streams.
    control: Outbox,
}

impl Front {
    fn remaining(&self) -> usize {
        self.begun.remaining() + self.control.remaining()
    }
}

/// A connection's stream and buffers.
pub(super) struct ConnectionIo {
    stream: Stream,
    pub(super) inbox: Inbox<BufferPool>,
    /// Whole messages, whose writing has not begun. Bounded by `outbox_bytes`, beyond which no request is taken, and by
    /// the responses to those that were.
    pub(super) outbox: Outbox,
    /// The bytes that go before those. `None` until there is something, as on most connections.
    front: Option<Box<Front>>,
    /// The bytes that may wait for the peer without a look at any limit.
    pub(super) unasked: usize,
    /// `true` if something was written or read since the last flush: what is read may have layers below answer.
    unflushed: bool,
    /// Bytes read since the handshake.
    pub(super) received: u64,
    /// Bytes written since the handshake.
    pub(super) sent: u64,
}

impl ConnectionIo {
    /// Creates the buffers of a stream. `input` is what was read behind the client's Option.
    pub(super) fn new(stream: Stream, input: BytesMut, limits: &Limits) -> Self {
        let unasked = limits.outbox_bytes.min(GUARANTEED_BYTES);
        let inbox = Inbox::with_source(input, BufferPool);
        Self {
            stream,
            inbox,
            outbox: Outbox::new(),
            front: None,
            unasked,
            unflushed: true,
            received: 0,
            sent: 0,
        }
    }

    /// Returns the size of the buffers of both directions, in bytes.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.waiting() + self.inbox.held_bytes()
    }

    /// Returns the number of bytes that wait for the peer.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.outbox.remaining() + self.front.as_ref().map_or(0, |front| front.remaining())
    }

    /// Returns the messages that go before responses.
    #[cold]
    pub(super) fn control(&mut self) -> &mut Outbox {
        &mut self.front.get_or_insert_default().control
    }

    /// Releases memory that is seldom needed.
    pub(super) fn shrink(&mut self) {
        self.front.take_if(|front| front.remaining() == 0);
    }

    /// Releases the memory that only messages need, as far as there are none.
    pub(super) fn release_memory(&mut self) {
        self.inbox.shrink();
        self.outbox.release();
    }

    /// Returns the traffic since the handshake, with this number of requests.
    pub(super) const fn traffic(&self, calls: u64) -> Traffic {
        Traffic { received: self.received, sent: self.sent, calls }
    }

    /// Reads once, at most `most` bytes. Ready with `false` if the peer has closed its half.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<bool>> {
        let mut room = self.inbox.room();
        room.set_limit(room.limit().min(most));
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut room))?;
        self.unflushed = true;
        self.inbox.advance(read);
        self.received += read as u64;
        Poll::Ready(Ok(read > 0))
    }

    /// Writes as much as the socket takes. Ready when nothing is left.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, timers: &mut Timers) -> Poll<io::Result<()>> {
        loop {
            if self.front.is_some() || self.outbox.remaining() > MAX_BEGUN {
                ready!(self.poll_write_in_order(cx, timers))?;
            }
            if !self.outbox.has_remaining() {
                break;
            }
            match self.stream.poll_write_from(cx, &mut self.outbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.unflushed = true;
                    self.sent += written as u64;
                    if self.outbox.has_remaining() {
                        self.front.get_or_insert_default().begun.append(&mut self.outbox);
                    }
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

    /// Writes the messages that have begun, and then, a part at a time, those that go before responses, and responses. Ready
    /// when the rest is little and in the right order.
    #[cold]
    fn poll_write_in_order(&mut self, cx: &mut Context<'_>, timers: &mut Timers) -> Poll<io::Result<()>> {
        let Front { begun, control } = &mut **self.front.get_or_insert_default();
        loop {
            if !begun.has_remaining() {
                if !control.has_remaining() && self.outbox.remaining() <= MAX_BEGUN {
                    // Either may have the buffer of a burst: they are swapped.
                    begun.shrink();
                    control.shrink();
                    return Poll::Ready(Ok(()));
                }
                begun.append(control);
                if self.outbox.remaining() > MAX_BEGUN {
                    self.outbox.move_messages(begun, MAX_BEGUN);
                } else {
                    begun.append(&mut self.outbox);
                }
            }
            match self.stream.poll_write_from(cx, begun) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.unflushed = true;
                    self.sent += written as u64;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let waiting = begun.remaining() + control.remaining() + self.outbox.remaining();
                    return timers.write_stalled(self.sent, waiting);
                }
            }
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
