//! A stream of bytes in the binary messages of a WebSocket ([RFC 6455](https://www.rfc-editor.org/rfc/rfc6455)),
//! for clients and servers alike. The borders of messages mean nothing.
//!
//! Asking for a WebSocket, and agreeing to one, is HTTP's: here both have been done. The rules for frames are in
//! [`frames`].

use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::time::{Sleep, sleep};
use tokio_tungstenite::tungstenite;

use self::frames::{Frame, FrameReader, MAX_HEAD, Opcode, Role, Violation, apply_mask, put_head};
use crate::stream::Stream;

mod frames;

/// The most that one message of ours carries, in bytes: enough for its head to cost nothing, and
/// little enough for the copy that masking needs.
const MAX_SENT: usize = 64 * 1024;
/// The number of bytes that are buffered before they are written, without a flush.
const WRITE_BUFFER: usize = 64 * 1024;
/// The size of one read whose frames are not known yet, in bytes. With the smallest frames, these are a few hundred
/// of them, which take microseconds.
const SMALL_READ: u64 = 8 * 1024;
/// The memory that an idle connection keeps for its frames, in bytes.
const MAX_IDLE_OUTPUT: usize = 4 * 1024;
/// Reads in a row that bring no data before other tasks run.
const READS_PER_TURN: usize = 4;
/// The largest message of a server that a client takes, in bytes. It is never held whole.
const MAX_FROM_SERVER: u64 = 64 * 1024 * 1024;
/// The time for which a server waits for the end of a peer that it has refused. Closing earlier could destroy the
/// Close on its way, since a kernel that gets data for a closed socket resets the connection.
const LINGER: Duration = Duration::from_secs(1);

/// The status codes of a Close (RFC 6455, section 7.4.1).
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const POLICY_VIOLATION: u16 = 1008;
const MESSAGE_TOO_BIG: u16 = 1009;

/// The client's end of a WebSocket. It sends no Close when it is shut down, since there is no half
/// close: the server closes when all is answered.
pub(crate) fn client(stream: Stream) -> Stream {
    stream.wrapped(|stream| WebSocket::new(stream, Role::Client, MAX_FROM_SERVER))
}

/// The server's end of a WebSocket, over a stream whose opening has been answered.
///
/// `max_message` is the largest message that is taken, in bytes. A larger one is closed with 1009, a text message with
/// 1003, more than 1,024 frames without data within 10 s with 1008, and a frame that RFC 6455 forbids with 1002. No
/// message is held: its bytes are read as they come. What is written goes in messages of at most 64 KiB.
pub fn serve_websocket(stream: Stream, max_message: usize) -> Stream {
    stream.wrapped(|stream| WebSocket::new(stream, Role::Server, max_message as u64))
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
    /// Bounds each read.
    stream: Take<Stream>,
    role: Role,
    frames: FrameReader,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// The payload of the control frame that is being read, at most 125 bytes.
    control: Vec<u8>,
    /// Frames that are being written: at most [`WRITE_BUFFER`], one more message, a pong and a Close.
    output: Vec<u8>,
    /// The part of `output` that has been written.
    written: usize,
    /// The payload of the last ping, until its pong is in `output`.
    pong: Option<Vec<u8>>,
    masks: Masks,
    /// `true` once a Close of this side is in `output`: nothing may follow it.
    closed: bool,
    /// `true` if that is the answer to the peer's: nothing of what is still to be said can be.
    is_left: bool,
    state: State,
}

/// The progress of reading towards its end.
enum State {
    Open,
    /// The peer broke the rules. It is sent a Close, and what it still sends is discarded until it has ended or the
    /// time is over; then reading fails.
    Refusing {
        violation: Violation,
        shut: bool,
        time: Pin<Box<Sleep>>,
    },
    /// The peer has closed.
    Ended,
}

/// A source of masks that peers cannot predict, as RFC 6455 demands of clients (section 10.3): SipHash of a counter,
/// with a key of the operating system's random numbers.
#[derive(Default)]
struct Masks {
    key: RandomState,
    count: u64,
}

impl WebSocket {
    fn new(stream: Stream, role: Role, max_message: u64) -> Self {
        Self {
            stream: stream.take(SMALL_READ),
            role,
            frames: FrameReader::new(role, max_message),
            frame: None,
            control: Vec::new(),
            output: Vec::new(),
            written: 0,
            pong: None,
            masks: Masks::default(),
            closed: false,
            is_left: false,
            state: State::Open,
        }
    }

    /// Reads once, and leaves the data of the frames in `buf`. Ready with `false` if the stream has ended.
    fn poll_data(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let start = buf.filled().len();
        // A large frame is read in one piece, with the head of the next one.
        let known = self.frame.as_ref().map_or(0, |frame| frame.left.saturating_add(MAX_HEAD as u64));
        self.stream.set_limit(known.max(SMALL_READ));
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = &mut buf.filled_mut()[start..];
        if read.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let (data, violation) = self.unframe(read);
        buf.set_filled(start + data);
        if let Some(violation) = violation {
            self.put_close(violation.status(), violation.reason());
            self.state = State::Refusing { violation, shut: false, time: Box::pin(sleep(LINGER)) };
        }
        Poll::Ready(Ok(true))
    }

    /// Moves the data of the frames to the front of `bytes`, up to a Close or a violation. Returns its length.
    fn unframe(&mut self, bytes: &mut [u8]) -> (usize, Option<Violation>) {
        let (mut from, mut data) = (0, 0);
        loop {
            let Some(frame) = &mut self.frame else {
                let (taken, frame) = self.frames.next(&bytes[from..]);
                from += taken;
                match frame {
                    Ok(Some(frame)) => self.frame = Some(frame),
                    Ok(None) => return (data, None),
                    Err(violation) => return (data, Some(violation)),
                }
                continue;
            };
            let some = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len() - from);
            frame.unmask(&mut bytes[from..from + some]);
            let (opcode, is_whole) = (frame.opcode, frame.left == 0);
            if matches!(opcode, Opcode::Binary | Opcode::Continuation) {
                bytes.copy_within(from..from + some, data);
                data += some;
            } else {
                self.control.extend_from_slice(&bytes[from..from + some]);
            }
            from += some;
            if !is_whole {
                return (data, None);
            }
            self.frame = None;
            match opcode {
                Opcode::Binary | Opcode::Continuation => {}
                // One pong answers the last of several pings (section 5.5.3).
                Opcode::Ping => self.pong = Some(std::mem::take(&mut self.control)),
                Opcode::Pong => self.control.clear(),
                Opcode::Close => match close_status(&self.control) {
                    Ok(status) => {
                        self.is_left = !self.closed;
                        self.put_close(status, "");
                        self.state = State::Ended;
                        return (data, None);
                    }
                    Err(violation) => return (data, Some(violation)),
                },
            }
        }
    }

    /// Sends a peer that was refused its Close, and waits for its end. Ready with the error of reading.
    fn poll_refuse(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        // In this order: the time bounds the other two.
        let mut drained = self.poll_drain(cx);
        let State::Refusing { violation, shut, time } = &mut self.state else {
            unreachable!("it is called in this state alone")
        };
        let error = violation.to_error();
        let is_over = time.as_mut().poll(cx).is_ready();
        if !*shut && matches!(drained, Poll::Ready(Ok(()))) {
            drained = Pin::new(self.stream.get_mut()).poll_shutdown(cx);
            *shut = drained.is_ready();
        }
        // A client need not wait: the Close of one that leaves may be lost.
        if is_over || matches!(drained, Poll::Ready(Err(_))) || (*shut && self.role == Role::Client) {
            return Poll::Ready(error);
        }
        let mut discarded = [0; 4096];
        for _ in 0..READS_PER_TURN {
            let mut buf = ReadBuf::new(&mut discarded);
            let read = ready!(Pin::new(self.stream.get_mut()).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(error);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Appends a frame with a payload of `len` bytes, which `fill` appends.
    fn put_frame(&mut self, opcode: Opcode, len: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        let mask = (self.role == Role::Client).then(|| self.masks.next());
        put_head(&mut self.output, opcode, len, mask);
        let start = self.output.len();
        fill(&mut self.output);
        if let Some(mask) = mask {
            apply_mask(mask, &mut self.output[start..]);
        }
    }

    /// Appends a Close, unless there is one. No status means that the peer's Close had none.
    fn put_close(&mut self, status: Option<u16>, reason: &str) {
        if !std::mem::replace(&mut self.closed, true) {
            let status = status.map(u16::to_be_bytes);
            let payload = [status.as_ref().map_or(&[][..], |status| &status[..]), reason.as_bytes()].concat();
            self.put_frame(Opcode::Close, payload.len(), |output| output.extend_from_slice(&payload));
        }
    }

    /// Writes all of `output`, and the pong that is due. Ready when nothing is left.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.written < self.output.len() {
                let rest = &self.output[self.written..];
                match ready!(Pin::new(self.stream.get_mut()).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => self.written += written,
                }
            }
            self.written = 0;
            self.output.clear();
            // An idle connection holds no large buffer.
            self.output.shrink_to(MAX_IDLE_OUTPUT);
            match self.pong.take() {
                Some(pong) if !self.closed => {
                    self.put_frame(Opcode::Pong, pong.len(), |output| output.extend_from_slice(&pong));
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Sends what `fill` makes, of `len` bytes, as one message.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if len == 0 {
            // Says if the stream below can still be written.
            return Pin::new(self.stream.get_mut()).poll_write(cx, &[]);
        }
        if self.output.len() >= WRITE_BUFFER {
            ready!(self.poll_drain(cx))?;
        }
        self.put_frame(Opcode::Binary, len, fill);
        Poll::Ready(Ok(len))
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let start = buf.filled().len();
        for _ in 0..READS_PER_TURN {
            match this.state {
                State::Open => {}
                State::Refusing { .. } => return this.poll_refuse(cx).map(Err),
                State::Ended => return Poll::Ready(Ok(())),
            }
            let read = this.poll_data(cx, buf);
            if this.pong.is_some() || this.closed || this.written < this.output.len() {
                // As far as the socket takes it at once: the peer may read nothing, and gets no further.
                let _ = this.poll_drain(cx);
            }
            if !ready!(read)? {
                // Without a Close, the stream may be incomplete.
                let is_whole = this.closed;
                return Poll::Ready(if is_whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) });
            }
            if buf.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
        // Frames without data hold up no other task.
        cx.waker().wake_by_ref();
        Poll::Pending
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
            let mut left = len;
            for buf in bufs {
                let some = buf.len().min(left);
                bytes.extend_from_slice(&buf[..some]);
                left -= some;
            }
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        if self.is_left && self.role == Role::Server {
            // A server that still works for the peer has no reason to: both have sent a Close, and it closes.
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    /// Sends a Close as a server; only flushes as a client.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.role == Role::Server {
            self.put_close(Some(NORMAL), "");
        }
        self.poll_flush(cx)
    }
}

impl Masks {
    fn next(&mut self) -> [u8; 4] {
        self.count += 1;
        (self.key.hash_one(self.count) as u32).to_ne_bytes()
    }
}

impl Violation {
    /// Returns the status of the Close that reports it.
    const fn status(self) -> Option<u16> {
        Some(match self {
            Self::Text => UNSUPPORTED_DATA,
            Self::TooLarge => MESSAGE_TOO_BIG,
            Self::EmptyFrames => POLICY_VIOLATION,
            Self::Protocol(_) => PROTOCOL_ERROR,
        })
    }

    /// Returns the reason in the Close that reports it; at most 123 bytes fit.
    const fn reason(self) -> &'static str {
        match self {
            Self::Text => "farcall is spoken in binary messages",
            Self::TooLarge => "the message is too large: send it as several",
            Self::EmptyFrames => "too many pings and frames without data",
            Self::Protocol(what) => what,
        }
    }

    fn to_error(self) -> io::Error {
        let what = match self {
            Self::Text => "a text message came over the WebSocket, where only binary ones may",
            Self::TooLarge => "a message came over the WebSocket that is larger than is allowed",
            Self::EmptyFrames => "more than 1,024 frames without data came over the WebSocket within 10 s",
            Self::Protocol(what) => {
                return io::Error::new(io::ErrorKind::InvalidData, format!("WebSocket: {what}"));
            }
        };
        io::Error::new(io::ErrorKind::InvalidData, what)
    }
}

/// Returns the status that answers a Close: the same as it has, `None` if it has none.
fn close_status(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((status, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(Violation::Protocol("a Close has half a status"))
        };
    };
    let status = u16::from_be_bytes(*status);
    // Section 7.4.1, and the registry of its section 11.7.
    let is_allowed = matches!(status, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if is_allowed && std::str::from_utf8(reason).is_ok() {
        Ok(Some(status))
    } else {
        Err(Violation::Protocol("a Close has a status or a reason that is not allowed"))
    }
}

#[cfg(test)]
mod tests;
