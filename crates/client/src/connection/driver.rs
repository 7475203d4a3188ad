//! The task of a connection: it writes what callers left, reads what the server answers, and
//! watches the clock.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use farcall_protocol::{
    ClientAction, ClientSession, EscapedText, Inbox, KeepAliveAction, KeepAliveTimer, Message,
    MessageDecoder, Outbox, ProtocolError,
};
use farcall_transport::{BufferPool, HumanDuration, Stream};
use tokio::io::AsyncWrite as _;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::{poll_read_buf, poll_write_buf};
use tracing::debug;

use super::broken;
use super::shared::Shared;
use super::wake_batch::WakeTogether;
use crate::connection::options::ConnectionOptions;
use crate::deadline::later;

/// Reads in a row before others on this thread go on.
const READS_PER_TURN: usize = 8;
/// Bytes in a row before others go on: whoever got much has something to do meanwhile.
const BYTES_PER_TURN: usize = 200 * 1024;
/// The timer never fires more often than this.
const MIN_TICK: Duration = Duration::from_millis(1);
/// Callers are not left to be woken together for longer: their thread may be kept busy, where another
/// is not.
const MOST_DUE: Duration = Duration::from_millis(2);
/// How long the server may take to close once all is said. Calls whose callers have gone may
/// still be under way, of which the server is to see the end of stream, not a reset.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Driver {
    stream: Stream,
    shared: Arc<Shared>,
    input: Inbox<BufferPool>,
    /// Whether `input` holds what nobody has looked at: it came along with the handshake.
    unread: bool,
    decoder: MessageDecoder,
    session: ClientSession,
    /// Answers of one read, until they are handed over together.
    answers: Vec<Message>,
    wakers: Vec<Waker>,
    wake_together: WakeTogether,
    /// What is being written: taken from the callers all at once.
    outbox: Outbox,
    /// Whether this task let callers go first since it found something to write.
    yielded: bool,
    flushed: bool,
    /// Whether this side will write nothing more.
    shut: bool,
    /// When to stop waiting for the server to close; set once all is said.
    close_by: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    silence: KeepAliveTimer,
    idle: Duration,
    /// Whether something was heard since the timer fired last.
    heard: bool,
    write_timeout: Duration,
    /// Since when the server takes nothing.
    write_stalled: Option<Instant>,
}

impl Driver {
    pub(super) fn new(
        stream: Stream,
        input: BytesMut,
        shared: Arc<Shared>,
        options: &ConnectionOptions,
    ) -> Self {
        let now = Instant::now();
        let negotiated = &shared.negotiated;
        Self {
            stream,
            unread: !input.is_empty(),
            input: Inbox::with_source(input, BufferPool),
            decoder: MessageDecoder::new(negotiated.codec.clone(), negotiated.receive_limit),
            session: ClientSession::new(),
            answers: Vec::new(),
            wakers: Vec::new(),
            wake_together: WakeTogether::new(),
            outbox: Outbox::new(),
            yielded: false,
            flushed: true,
            shut: false,
            close_by: None,
            timer: Box::pin(sleep_until(later(now, options.keep_alive.idle))),
            silence: KeepAliveTimer::new(options.keep_alive, now.into_std()),
            idle: options.keep_alive.idle.max(MIN_TICK),
            heard: true,
            write_timeout: options.write_limit(),
            write_stalled: None,
            shared,
        }
    }

    /// Ready when the connection has ended, with the reason.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        // Always first, so that two sides that both write cannot lock each other.
        if let Poll::Ready(why) = self.poll_read(cx) {
            return Poll::Ready(why);
        }
        if let Poll::Ready(written) = self.poll_write(cx)
            && let Err(why) = written.and_then(|()| self.close_if_done(cx))
        {
            return Poll::Ready(why);
        }
        self.poll_timer(cx)
    }

    /// Reads and hands over answers. Ready when the connection has ended, with the reason.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        if std::mem::take(&mut self.unread)
            && let Err(error) = self.handle_input(Instant::now())
        {
            return Poll::Ready(against_protocol(&error));
        }
        let mut bytes = 0;
        for _ in 0..READS_PER_TURN {
            match ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input.room())) {
                Ok(0) => return Poll::Ready("it closed the connection".to_owned()),
                Ok(read) => {
                    self.input.advance(read);
                    bytes += read;
                }
                Err(error) => return Poll::Ready(broken(&error)),
            }
            let now = Instant::now();
            self.silence.heard(now.into_std());
            self.heard = true;
            if let Err(error) = self.handle_input(now) {
                return Poll::Ready(against_protocol(&error));
            }
            if bytes > BYTES_PER_TURN {
                break;
            }
        }
        // There may be more, of which nobody would tell again.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn handle_input(&mut self, now: Instant) -> Result<(), ProtocolError> {
        let handled = self.handle_messages(now);
        // Also where the server broke the protocol: what it answered before counts.
        if !self.answers.is_empty() {
            self.answer(now);
        }
        handled
    }

    fn handle_messages(&mut self, now: Instant) -> Result<(), ProtocolError> {
        while let Some(message) = self.input.next(&self.decoder)? {
            match self.session.receive(&message.header, now.into_std())? {
                ClientAction::Response => self.answers.push(message),
                ClientAction::Pong => self.shared.pong(message.header.seq),
                ClientAction::Goaway { last } => {
                    let why = message.header.error.map_or_else(
                        || "it said goaway".to_owned(),
                        |status| format!("it said goaway: {}", EscapedText(&status.message)),
                    );
                    debug!(endpoint = %self.shared.endpoint, %last, why, "goaway");
                    // Answers that came before it count before it.
                    self.answer(now);
                    self.shared.goaway(last, why);
                }
                ClientAction::Ignore => {}
            }
        }
        Ok(())
    }

    /// Hands over the answers that were read.
    fn answer(&mut self, now: Instant) {
        self.shared.answer(&mut self.answers, &mut self.wakers);
        if self.wake_together.wake(&mut self.wakers) {
            self.wake_by(now + MOST_DUE);
        }
    }

    /// Writes what callers left. Ready when nothing is left.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        loop {
            while self.outbox.has_remaining() {
                match poll_write_buf(Pin::new(&mut self.stream), cx, &mut self.outbox) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err("it takes no more bytes".to_owned())),
                    Poll::Ready(Ok(written)) => {
                        self.shared.written.fetch_add(written as u64, Ordering::Relaxed);
                        self.write_stalled = None;
                        self.flushed = false;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(broken(&error))),
                    Poll::Pending => return self.stalled(),
                }
            }
            if !self.shared.has_output() {
                return self.poll_flush(cx);
            }
            if !self.shared.has_much_output() && !std::mem::replace(&mut self.yielded, true) {
                // Callers that are ready to call do so first, and all leave in one write.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.yielded = false;
            self.shared.take_output(&mut self.outbox);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        if !self.flushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(broken(&error))),
                Poll::Pending => return self.stalled(),
            }
            self.flushed = true;
            self.write_stalled = None;
            self.outbox.shrink();
        }
        Poll::Ready(Ok(()))
    }

    /// The server takes nothing: it has the write timeout to change that.
    fn stalled<T>(&mut self) -> Poll<T> {
        if self.write_stalled.is_none() {
            let now = Instant::now();
            self.write_stalled = Some(now);
            self.wake_by(later(now, self.write_timeout));
        }
        Poll::Pending
    }

    /// Ends this side of the stream once all is said and answered; the server closes when it has
    /// read so.
    fn close_if_done(&mut self, cx: &mut Context<'_>) -> Result<(), String> {
        if self.close_by.is_none() {
            if !self.shared.is_done() {
                return Ok(());
            }
            let by = later(Instant::now(), CLOSE_TIMEOUT);
            self.close_by = Some(by);
            self.wake_by(by);
        }
        if !self.shut {
            match Pin::new(&mut self.stream).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => self.shut = true,
                Poll::Ready(Err(error)) => return Err(broken(&error)),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// Does what is due by the clock. Ready when the connection is dead, with the reason.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        if let Some(earliest) = self.shared.take_earlier() {
            self.wake_by(earliest);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let next = match self.tick(now) {
                Ok(next) => next,
                Err(why) => return Poll::Ready(why),
            };
            self.timer.as_mut().reset(next.max(now + MIN_TICK));
        }
        Poll::Pending
    }

    /// When to look at the clock next; an error when the connection is dead.
    fn tick(&mut self, now: Instant) -> Result<Instant, String> {
        let mut next = later(now, self.idle);
        if let Some(by) = self.close_by {
            if now >= by {
                return Err("it did not close the connection".to_owned());
            }
            next = next.min(by);
        }
        if let Some(stalled) = self.write_stalled {
            let by = later(stalled, self.write_timeout);
            if now >= by {
                return Err(format!("nothing could be written for {}", HumanDuration(self.write_timeout)));
            }
            next = next.min(by);
        }
        match self.silence.check(now.into_std()) {
            KeepAliveAction::Until(time) => next = next.min(time.into()),
            KeepAliveAction::Ping(time) => {
                self.shared.ping();
                next = next.min(time.into());
            }
            KeepAliveAction::Dead => return Err("it did not answer a ping".to_owned()),
        }
        if let Some(earliest) = self.shared.expire(now) {
            next = next.min(earliest);
        }
        if !std::mem::take(&mut self.heard) {
            // An idle connection keeps no buffer.
            self.input.shrink();
        }
        Ok(next)
    }

    /// Has the timer look at `time`, if it would not by itself.
    fn wake_by(&mut self, time: Instant) {
        if time < self.timer.deadline() {
            self.timer.as_mut().reset(time);
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Before anything is looked at: what changes afterwards wakes this task.
        self.shared.waker.register(cx.waker());
        // Whoever has waited until now does so no longer: there is more to read or to write.
        self.wake_together.wake_due();
        let why = ready!(self.poll_end(cx));
        debug!(endpoint = %self.shared.endpoint, why, "disconnected");
        self.shared.end(why);
        Poll::Ready(())
    }
}

impl Drop for Driver {
    /// Also where the task is dropped unfinished, as a runtime that shuts down does it: nobody
    /// waits for an answer that nobody will read.
    fn drop(&mut self) {
        self.shared.end("the runtime of the connection was shut down".to_owned());
    }
}

fn against_protocol(error: &ProtocolError) -> String {
    format!("it broke the protocol: {error}")
}
