//! The task of a connection: it writes the callers' requests, and reads the server's replies. What is late is told by
//! [`TimeLimits`].

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use farcall_protocol::{
    ClientAction, ClientSession, EscapedText, Flags, Header, Inbox, Kind, Message, MessageDecoder, Outbox,
    ProtocolError, Seq,
};
use farcall_runtime::time::Instant;
use farcall_transport::{BufferPool, Stream};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio_util::io::poll_read_buf;
use tracing::{debug, error};

use super::in_flight::ReplyParts;
use super::io_error::describe;
use super::options::ConnectionOptions;
use super::progress::EndKind;
use super::shared::Shared;
use super::stream_waker::StreamWaker;
use super::streams::StreamInput;
use super::time_limits::TimeLimits;
use super::wake_batch::WakeBatch;

/// Reads in a row before other tasks on this thread run.
const READS_PER_TURN: usize = 8;
/// Bytes read in a row before other tasks run: callers with large replies have work to do meanwhile.
const BYTES_PER_TURN: usize = 200 * 1024;
/// Reads of a connection whose task is dropped, so that a server that sends without end does not hold it up.
const LAST_READS: usize = 64;
/// The longest time for which the wake-ups of callers are delayed: their thread may be busy while another is idle.
const MAX_WAKE_DELAY: Duration = Duration::from_millis(2);
/// The time without input after which a connection releases the memory that calls need. Longer, and many idle connections hold
/// buffers that none of them needs, also after each answer to a ping; much shorter, and memory is allocated for each of some calls.
const RELEASE_AFTER: Duration = Duration::from_secs(1);

/// The task of a connection. It is ready when the connection has ended.
pub(super) struct Driver {
    stream: Stream,
    stream_waker: StreamWaker,
    /// `true` if the stream may have bytes to read: it has woken the task since it had none.
    may_read: bool,
    shared: Arc<Shared>,
    input: Inbox<BufferPool>,
    /// `true` if `input` holds unread bytes that came with the handshake.
    unread: bool,
    decoder: MessageDecoder,
    session: ClientSession,
    /// The number of calls that were completed since callers were woken.
    completed: usize,
    /// The other replies of one read, until their calls are completed together.
    replies: Vec<(Seq, ReplyParts)>,
    /// The input of streams from one read, until it is passed on together.
    items: Vec<StreamInput>,
    /// Memory for small items, which others have left.
    spare: Vec<BytesMut>,
    wakers: Vec<Waker>,
    wake_batch: WakeBatch,
    /// The bytes that are being written, taken from the callers all at once.
    outbox: Outbox,
    /// The bytes at its front that have no position in the outgoing stream.
    control: usize,
    /// `true` if this task let callers run since it found bytes to write.
    yielded: bool,
    /// `true` if a single call was answered last: its caller seems to be alone.
    answered_one: bool,
    flushed: bool,
    /// `true` once this side has shut down its direction of the stream.
    shut: bool,
    limits: TimeLimits,
    /// `true` if a ping was among the messages of the last read.
    was_pinged: bool,
    /// `true` if bytes were received since the timer expired last; then it expires within [`RELEASE_AFTER`].
    received: bool,
}

impl Driver {
    pub(super) fn new(
        stream: Stream,
        input: BytesMut,
        shared: Arc<Shared>,
        options: &ConnectionOptions,
    ) -> Self {
        let negotiated = &shared.negotiated;
        let now = Instant::now();
        let mut limits = TimeLimits::new(options, now);
        limits.wake_by(now + RELEASE_AFTER);
        Self {
            stream,
            stream_waker: StreamWaker::new(Waker::noop()),
            may_read: true,
            unread: !input.is_empty(),
            input: Inbox::with_source(input, BufferPool),
            decoder: MessageDecoder::new(negotiated.codec.clone(), negotiated.receive_limit),
            session: ClientSession::new().with_streams(negotiated.streams.is_some()),
            completed: 0,
            replies: Vec::new(),
            items: Vec::new(),
            spare: Vec::new(),
            wakers: Vec::new(),
            wake_batch: WakeBatch::new(),
            outbox: Outbox::new(),
            control: 0,
            yielded: false,
            answered_one: false,
            flushed: true,
            shut: false,
            limits,
            was_pinged: false,
            received: true,
            shared,
        }
    }

    /// Drives the connection. Ready when it has ended, with the reason.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<(String, EndKind)> {
        // Reads come first, so that two sides that both write cannot deadlock.
        if self.may_read
            && let Poll::Ready(end) = self.poll_read(cx)
        {
            return Poll::Ready(end);
        }
        if let Poll::Ready(written) = self.poll_write(cx)
            && let Err(reason) = written.and_then(|()| self.close_if_done())
        {
            return Poll::Ready((reason, EndKind::Broken));
        }
        self.poll_timer(cx).map(|reason| (reason, EndKind::Broken))
    }

    /// Reads replies and completes their calls. Ready when the connection has ended, with the reason.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<(String, EndKind)> {
        if std::mem::take(&mut self.unread)
            && let Err(error) = self.handle_input(Instant::now())
        {
            return Poll::Ready((protocol_violation(&error), EndKind::Broken));
        }
        // Of what came with the handshake, which was heard in any case.
        self.was_pinged = false;
        let mut bytes = 0;
        for _ in 0..READS_PER_TURN {
            let mut woken_by_stream = Context::from_waker(self.stream_waker.waker());
            let stream = Pin::new(&mut self.stream);
            let Poll::Ready(read) = poll_read_buf(stream, &mut woken_by_stream, &mut self.input.room())
            else {
                self.may_read = false;
                return Poll::Pending;
            };
            match read {
                Ok(0) => return Poll::Ready(("it closed the connection".to_owned(), EndKind::Closed)),
                Ok(read) => {
                    self.input.advance(read);
                    bytes += read;
                }
                Err(error) => return Poll::Ready((describe(&error), EndKind::Broken)),
            }
            let now = Instant::now();
            if !std::mem::replace(&mut self.received, true) {
                self.limits.wake_by(now + RELEASE_AFTER);
            }
            if let Err(error) = self.handle_input(now) {
                return Poll::Ready((protocol_violation(&error), EndKind::Broken));
            }
            if self.was_pinged {
                // The server has heard nothing of this side: only a pong tells that the other direction works.
                self.was_pinged = false;
            } else {
                self.limits.heard(now);
            }
            if bytes > BYTES_PER_TURN {
                break;
            }
        }
        // There may be more bytes, which cause no further wake-up.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn handle_input(&mut self, now: Instant) -> Result<(), ProtocolError> {
        let mut handled = self.handle_messages(now);
        if !self.items.is_empty() {
            // Items come before the replies that end their calls.
            handled = self.receive_items(now).and(handled);
        }
        // Replies count even if the server broke the protocol after them.
        if self.completed > 0 || !self.replies.is_empty() {
            self.complete_calls(now);
        }
        handled
    }

    fn handle_messages(&mut self, now: Instant) -> Result<(), ProtocolError> {
        self.completed += self.shared.complete_usual(&mut self.input, &self.decoder, &mut self.wakers);
        // One for all, since a message is large to be moved.
        let mut message = Message::default();
        while self.input.read(&self.decoder, &mut message)? {
            match self.session.receive(&message.header, now.into_std())? {
                ClientAction::Response => {
                    self.replies.push((message.header.seq, ReplyParts::take_from(&mut message)));
                }
                ClientAction::Pong => {
                    self.was_pinged = true;
                    self.shared.pong(message.header.seq);
                }
                ClientAction::Goaway { last } => {
                    let reason = message.header.error.take().map_or_else(
                        || "it said goaway".to_owned(),
                        |status| format!("it said goaway: {}", EscapedText(&status.message)),
                    );
                    debug!(endpoint = %self.shared.endpoint, %last, reason, "goaway");
                    // What came before the goaway is handled before it.
                    self.receive_items(now)?;
                    self.complete_calls(now);
                    self.shared.goaway(last, reason);
                }
                ClientAction::Stream => {
                    if !self.replies.is_empty() {
                        // An item behind the reply of its call is ignored.
                        self.receive_items(now)?;
                        self.complete_calls(now);
                    }
                    self.take_items(std::mem::take(&mut message));
                }
                // A pong, among others, which may come together with a ping.
                ClientAction::Ignore => self.limits.heard(now),
            }
        }
        Ok(())
    }

    /// Takes a message of a stream, and the small items of the same stream that follow it.
    #[cold]
    fn take_items(&mut self, message: Message) {
        let Header { kind, seq, flags, .. } = message.header;
        self.items.push(StreamInput::Message(message));
        if kind == Kind::Item {
            let compressed = flags.contains(Flags::COMPRESSED);
            while let Some(batch) = self.input.next_items(&self.decoder, seq, compressed, &mut self.spare) {
                self.items.push(StreamInput::Items(seq, batch));
            }
        }
    }

    /// Passes on what was read for streams.
    fn receive_items(&mut self, now: Instant) -> Result<(), ProtocolError> {
        if let Some(check_at) = self.shared.receive_items(&mut self.items, &mut self.spare, now)? {
            self.limits.wake_by(check_at);
        }
        Ok(())
    }

    /// Completes the calls whose replies were read.
    fn complete_calls(&mut self, now: Instant) {
        self.answered_one = std::mem::take(&mut self.completed) + self.replies.len() == 1;
        if !self.replies.is_empty() {
            self.shared.complete(&mut self.replies, &mut self.wakers);
        }
        if self.wake_batch.wake(&mut self.wakers) {
            self.limits.wake_by(now + MAX_WAKE_DELAY);
        }
    }

    /// Writes the callers' requests. Ready when nothing is left to write.
    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        let is_written = self.flushed && !self.outbox.has_remaining() && !self.shared.has_output();
        if self.shut || (is_written && !self.shared.progress.is_flush_wanted()) {
            return Poll::Ready(Ok(()));
        }
        self.poll_output(cx)
    }

    #[inline(never)]
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        loop {
            while self.outbox.has_remaining() {
                let mut woken_by_stream = Context::from_waker(self.stream_waker.waker());
                match self.stream.poll_write_from(&mut woken_by_stream, &mut self.outbox) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err("it takes no more bytes".to_owned())),
                    Poll::Ready(Ok(written)) => {
                        let control = written.min(self.control);
                        self.control -= control;
                        self.shared.progress.add_written(written - control);
                        self.limits.write_goes_on();
                        self.flushed = false;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(describe(&error))),
                    Poll::Pending => {
                        self.limits.write_stalls();
                        return Poll::Pending;
                    }
                }
            }
            let more = self.shared.has_output();
            // Under load there is always more; callers that wait for their bytes to be flushed still see it soon.
            if !more || self.shared.progress.is_flush_wanted() {
                let flushed = ready!(self.poll_flush());
                if !more || flushed.is_err() {
                    return Poll::Ready(flushed);
                }
            }
            let Some(control) = self.shared.take_output(&mut self.outbox, self.answered_one, self.yielded)
            else {
                // Let callers that are ready append their requests first, so that one write sends all.
                self.yielded = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            };
            self.yielded = false;
            self.control = control;
            // A stream may have begun to wait for credit.
            if let Some(check_at) = self.shared.streams_check_at() {
                self.limits.wake_by(check_at);
            }
        }
    }

    #[inline]
    fn poll_flush(&mut self) -> Poll<Result<(), String>> {
        if !self.flushed {
            let mut woken_by_stream = Context::from_waker(self.stream_waker.waker());
            match Pin::new(&mut self.stream).poll_flush(&mut woken_by_stream) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(describe(&error))),
                Poll::Pending => {
                    self.limits.write_stalls();
                    return Poll::Pending;
                }
            }
            self.flushed = true;
            self.shared.progress.set_flushed();
            self.limits.write_goes_on();
            self.outbox.shrink();
        }
        if self.shared.progress.is_flush_wanted() {
            self.shared.progress.notify_flushed();
        }
        Poll::Ready(Ok(()))
    }

    /// Shuts down this direction of the stream once everything is written and answered; the server then closes the
    /// connection.
    fn close_if_done(&mut self) -> Result<(), String> {
        if !self.limits.is_closing() {
            if !self.shared.is_done() {
                return Ok(());
            }
            self.limits.begin_close();
        }
        if !self.shut {
            let mut woken_by_stream = Context::from_waker(self.stream_waker.waker());
            match Pin::new(&mut self.stream).poll_shutdown(&mut woken_by_stream) {
                Poll::Ready(Ok(())) => self.shut = true,
                Poll::Ready(Err(error)) => return Err(describe(&error)),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// Writes what is left and shuts this direction down, for the last time that this is polled.
    #[cold]
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Bytes that were not read when the socket is closed would reset the connection, and what was written
        // with it.
        let mut discarded = [0; 4096];
        for _ in 0..LAST_READS {
            let mut input = ReadBuf::new(&mut discarded);
            match Pin::new(&mut self.stream).poll_read(cx, &mut input) {
                Poll::Ready(Ok(())) if !input.filled().is_empty() => {}
                _ => break,
            }
        }
        // No caller is waited for.
        self.yielded = true;
        if ready!(self.poll_write(cx)).is_ok() {
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
        }
        Poll::Ready(())
    }

    /// Enforces time limits. Ready when the connection is dead, with the reason.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        if let Some(earliest) = self.shared.take_earlier() {
            self.limits.wake_by(earliest);
        }
        while self.limits.poll(cx).is_ready() {
            let now = Instant::now();
            match self.tick(now) {
                Ok(next) => self.limits.set_next(next, now),
                Err(reason) => return Poll::Ready(reason),
            }
        }
        Poll::Pending
    }

    /// Returns when the timer has to expire next.
    ///
    /// # Errors
    ///
    /// The connection is dead, for this reason.
    fn tick(&mut self, now: Instant) -> Result<Instant, String> {
        let mut next = self.limits.check(now, &self.shared)?;
        if let Some(earliest) = self.shared.expire(now) {
            next = next.min(earliest);
        }
        if std::mem::take(&mut self.received) {
            next = next.min(now + RELEASE_AFTER);
        } else {
            self.release_memory();
        }
        Ok(next)
    }

    /// Releases the memory that only calls and their bytes need, as far as none are there.
    fn release_memory(&mut self) {
        self.input.shrink();
        self.outbox.release();
        self.replies.shrink_to_fit();
        self.items.shrink_to_fit();
        self.spare = Vec::new();
        self.wakers.shrink_to_fit();
        self.wake_batch.release_memory();
        self.shared.release_memory();
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Registered before the state is read: changes afterwards wake this task.
        self.shared.waker.register(cx.waker());
        self.stream_waker.set_task(cx.waker());
        if self.stream_waker.take_woken() {
            self.may_read = true;
        }
        // Callers wait no longer than until the next turn: there is more to read or to write.
        self.wake_batch.wake_pending();
        let (reason, kind) = ready!(self.poll_end(cx));
        debug!(endpoint = %self.shared.endpoint, reason, "disconnected");
        self.shared.end(reason, kind);
        Poll::Ready(())
    }
}

impl Drop for Driver {
    /// Ends all calls if the task is dropped unfinished, as by a runtime that shuts down: their replies will not be
    /// read. What callers have sent is written first, as far as the socket takes it at once.
    fn drop(&mut self) {
        // Their calls are completed, and the end tells them nothing. One of them may be the reason of a panic.
        for waker in self.wakers.drain(..) {
            let _panic = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        if self.shared.progress.ended().is_some() {
            return;
        }
        if std::thread::panicking() {
            error!(endpoint = %self.shared.endpoint, "the task of a connection has panicked");
            return self.shared.end("the task of the connection panicked".to_owned(), EndKind::Broken);
        }
        let reason = "the runtime of the connection was shut down";
        self.shared.stop(reason.to_owned());
        // Outside of the budget of the task that happens to drop this: there is no next turn.
        let rest = poll_fn(|cx| self.poll_rest(cx));
        let _ = pin!(unconstrained(rest)).poll(&mut Context::from_waker(Waker::noop()));
        self.shared.end(reason.to_owned(), EndKind::Orphaned);
    }
}

fn protocol_violation(error: &ProtocolError) -> String {
    format!("it broke the protocol: {error}")
}

#[cfg(test)]
mod tests;
