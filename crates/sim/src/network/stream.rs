//! [`SimStream`]: one end of a connection, as its owner reads and writes it.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::{Connection, Side};
use super::pipe::Read;

/// One end of a connection. Dropping it closes the connection, as the end of a socket does.
#[derive(Debug)]
pub(super) struct SimStream {
    connection: Arc<Connection>,
    side: Side,
    /// The time at which something arrives, while it is waited for.
    timer: Timer,
    /// The time at which a reset arrives, while there is no room to write.
    reset_timer: Timer,
}

type Timer = Option<Pin<Box<Sleep>>>;

/// Waits until `at`, with a timer that is made when it is needed first.
fn wait_until(timer: &mut Timer, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let sleep = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
    if sleep.deadline() != at {
        sleep.as_mut().reset(at);
    }
    ready!(sleep.as_mut().poll(cx));
    *timer = None;
    Poll::Ready(())
}

impl SimStream {
    pub(super) const fn new(connection: Arc<Connection>, side: Side) -> Self {
        Self { connection, side, timer: None, reset_timer: None }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let read = self.connection.incoming(self.side).read(cx, |bytes| {
                let len = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes[..len]);
                len
            });
            match read {
                Read::Ready => return Poll::Ready(Ok(())),
                Read::Failed(kind) => return Poll::Ready(Err(kind.into())),
                Read::Waiting => {
                    self.timer = None;
                    return Poll::Pending;
                }
                Read::Until(at) => {
                    if wait_until(&mut self.timer, at, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.connection.incoming(self.side).is_reset() {
                return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
            }
            let written = self.connection.poll_write(self.side, cx, bytes);
            if written.is_ready() {
                self.reset_timer = None;
                return written;
            }
            let reset_at = self.connection.incoming(self.side).wait_for_reset(cx);
            let Some(at) = reset_at else { return Poll::Pending };
            if wait_until(&mut self.reset_timer, at, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.outgoing(self.side).end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.connection.close(self.side);
    }
}
