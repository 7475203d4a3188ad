//! A connection's turns at reading and writing, from what the socket brings to its close. What
//! the bytes say is for [`super::dispatch`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::{Connection, End, Phase};
use crate::limits::{LINGER, READS_PER_TURN, after};

impl Connection {
    /// Does what can be done without waiting.
    pub(super) fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<End>> {
        for _ in 0..READS_PER_TURN {
            match self.phase {
                Phase::Open | Phase::Finishing | Phase::Flushing => {}
                Phase::Shutting(until) => {
                    ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                    if self.eof {
                        return Poll::Ready(Ok(End::Finished));
                    }
                    self.phase = Phase::Lingering(until);
                    continue;
                }
                Phase::Lingering(_) => return self.poll_linger(cx),
            }
            self.take_answers(cx);
            if self.unread && !self.is_outbox_full() {
                self.handle_input(Instant::now());
            }
            let flushed = self.poll_flush(cx)?.is_ready();
            if self.unread && (flushed || !self.is_outbox_full()) {
                continue;
            }
            // Not before all is with the kernel: what TLS still holds would be lost in the end.
            if flushed && self.is_done() {
                let until = Instant::now() + LINGER;
                self.phase = Phase::Shutting(until);
                self.wake_by(until);
                continue;
            }
            if self.unread || self.eof || self.phase == Phase::Flushing {
                return Poll::Pending;
            }
            if ready!(self.poll_read(cx))? {
                let now = Instant::now();
                self.silence.heard(now.into_std());
                self.handle_input(now);
            } else if self.goodbye {
                self.eof = true;
            } else {
                // Without a goodbye, the callers have gone; behind one, they wait for answers.
                return Poll::Ready(Ok(End::Vanished));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take_answers(&mut self, cx: &Context<'_>) {
        if !self.home.calls.has_answers() {
            return;
        }
        if std::mem::replace(&mut self.yielded, true) {
            self.yielded = false;
            self.home.calls.take_answers(&mut self.outbox);
        } else {
            // Others that are about to answer do so first, and all leave in one write.
            cx.waker().wake_by_ref();
        }
    }

    /// Writes what the socket takes. Ready when nothing is left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outbox.has_remaining() {
            match poll_write_buf(Pin::new(&mut self.stream), cx, &mut self.outbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.traffic.sent += written as u64;
                    self.write_stalled = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.stalled(),
            }
        }
        self.outbox.shrink();
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => {
                self.write_stalled = None;
                Poll::Ready(flushed)
            }
            Poll::Pending => self.stalled(),
        }
    }

    /// The peer takes nothing: it has the write timeout to change that.
    fn stalled<T>(&mut self) -> Poll<T> {
        if self.write_stalled.is_none() {
            let now = Instant::now();
            self.write_stalled = Some(now);
            self.wake_by(after(now, self.home.core.limits.write_timeout));
        }
        Poll::Pending
    }

    /// Reads once. Ready with whether something came; if not, the peer sends nothing more.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input.room()))?;
        self.input.advance(read);
        self.traffic.received += read as u64;
        Poll::Ready(Ok(read > 0))
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<End>> {
        let mut discarded = [0; 4096];
        for _ in 0..READS_PER_TURN {
            let mut buffer = ReadBuf::new(&mut discarded);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(End::Finished));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// An idle connection keeps no large buffer.
    pub(super) fn give_back_memory(&mut self) {
        self.input.shrink();
    }
}
