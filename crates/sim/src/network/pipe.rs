//! [`Pipe`]: one direction of a connection: bytes that are on their way, and the faults that hold them up.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::link::Link;

/// One direction of a connection, as TCP delivers it: in order, once, and after a while.
#[derive(Debug)]
pub(super) struct Pipe {
    link: Link,
    random: Rng,
    segments: VecDeque<Segment>,
    /// Bytes that were written and not read, and those that were read and not acknowledged.
    held: usize,
    /// The part of `held` that was read while no acknowledgement could be sent back.
    unacknowledged: usize,
    /// The time at which the link has sent what was written.
    free_at: Instant,
    /// The time at which the last segment arrives: none overtakes it.
    last_at: Instant,
    /// Nothing arrives, though it may be written.
    is_cut: bool,
    /// The other direction is cut, so that no acknowledgement arrives.
    is_deaf: bool,
    /// The writer has shut down.
    ended: bool,
    /// The reader is gone: what arrives is answered with a reset.
    is_unread: bool,
    /// The time at which the reading side learns that the connection was reset.
    reset_at: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The reading side, as the writer of the other direction, which a reset ends as well.
    other_writer: Option<Waker>,
}

/// Bytes that arrive together; the end of the stream if there are none.
#[derive(Debug)]
struct Segment {
    at: Instant,
    bytes: Vec<u8>,
    read: usize,
}

/// The outcome of looking for bytes to read.
pub(super) enum Read {
    /// Some were taken, or the stream has ended.
    Ready,
    /// Nothing before this time.
    Until(Instant),
    /// Nothing until the reader is woken.
    Waiting,
    /// The connection was reset.
    Failed(ErrorKind),
}

/// The most segments, or a few more, that the bytes of one write are split into.
const MAX_SEGMENTS: usize = 32;

/// The longest time after a cut for TCP to send again.
const MAX_RETRANSMISSION: Duration = Duration::from_millis(400);

impl Pipe {
    pub(super) fn new(link: Link, random: Rng) -> Self {
        let now = Instant::now();
        Self {
            link,
            random,
            segments: VecDeque::new(),
            held: 0,
            unacknowledged: 0,
            free_at: now,
            last_at: now,
            is_cut: false,
            is_deaf: false,
            ended: false,
            is_unread: false,
            reset_at: None,
            reader: None,
            writer: None,
            other_writer: None,
        }
    }

    pub(super) fn poll_write(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if self.is_unread {
            return Poll::Ready(Ok(bytes.len()));
        }
        let room = self.link.buffer_bytes.saturating_sub(self.held);
        if room == 0 {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let written = room.min(bytes.len());
        let mut rest = &bytes[..written];
        while !rest.is_empty() {
            // A read ends where a packet does, which is anywhere.
            let most = rest.len().min(self.link.segment_bytes.max(written / MAX_SEGMENTS));
            let len = if self.random.bool() { most } else { self.random.usize(1..=most) };
            let (segment, after) = rest.split_at(len);
            self.push(segment.to_vec());
            rest = after;
        }
        Poll::Ready(Ok(written))
    }

    /// Shuts the direction down: the reader comes to the end after all that was written.
    pub(super) fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.push(Vec::new());
        }
    }

    fn push(&mut self, bytes: Vec<u8>) {
        let now = Instant::now();
        self.free_at = self.free_at.max(now) + self.link.sending_time(bytes.len());
        let arrives = self.free_at + self.link.draw_latency(&mut self.random);
        self.last_at = self.last_at.max(arrives);
        self.held += bytes.len();
        self.segments.push_back(Segment { at: self.last_at, bytes, read: 0 });
        self.wake_reader();
    }

    /// Reads what has arrived.
    pub(super) fn read(&mut self, cx: &Context<'_>, mut take: impl FnMut(&[u8]) -> usize) -> Read {
        let now = Instant::now();
        if self.is_reset() {
            return Read::Failed(ErrorKind::ConnectionReset);
        }
        let next = self.segments.front_mut().filter(|_| !self.is_cut);
        let arrives = next.as_ref().map(|segment| segment.at);
        if let Some(segment) = next.filter(|segment| segment.at <= now) {
            if segment.bytes.is_empty() {
                // The end stays, to be read again.
                return Read::Ready;
            }
            let taken = take(&segment.bytes[segment.read..]);
            segment.read += taken;
            if segment.read == segment.bytes.len() {
                self.segments.pop_front();
            }
            if self.is_deaf {
                self.unacknowledged += taken;
            } else {
                self.held -= taken;
                self.wake_writer();
            }
            return Read::Ready;
        }
        self.reader = Some(cx.waker().clone());
        let times = [arrives, self.reset_at.filter(|_| !self.is_cut)];
        times.into_iter().flatten().min().map_or(Read::Waiting, Read::Until)
    }

    /// Cuts the direction, or heals it: then what was held up is sent again, after a while.
    pub(super) fn set_cut(&mut self, is_cut: bool) {
        if std::mem::replace(&mut self.is_cut, is_cut) && !is_cut {
            let pause = self.random.u64(0..=MAX_RETRANSMISSION.as_millis() as u64);
            let resumed = Instant::now() + Duration::from_millis(pause);
            for segment in &mut self.segments {
                segment.at = segment.at.max(resumed);
            }
            self.last_at = self.last_at.max(resumed);
            self.reset_at = self.reset_at.map(|at| at.max(resumed));
            self.wake_reader();
        }
    }

    /// Sets whether acknowledgements are lost.
    pub(super) fn set_deaf(&mut self, is_deaf: bool) {
        self.is_deaf = is_deaf;
        if !is_deaf {
            self.held -= std::mem::take(&mut self.unacknowledged);
            self.wake_writer();
        }
    }

    /// Resets the connection for the reading side: it learns of it in a while, and what is on its way is lost.
    pub(super) fn reset(&mut self) {
        let at = self.last_at.max(Instant::now() + self.latency());
        if self.reset_at.is_none_or(|known| at < known) {
            self.reset_at = Some(at);
            self.wake_reader();
        }
    }

    /// Returns `true` if the reading side knows that the connection was reset.
    pub(super) fn is_reset(&self) -> bool {
        !self.is_cut && self.reset_at.is_some_and(|at| at <= Instant::now())
    }

    /// Returns when the reading side learns of a reset, and wakes it when that changes.
    pub(super) fn wait_for_reset(&mut self, cx: &Context<'_>) -> Option<Instant> {
        self.other_writer = Some(cx.waker().clone());
        self.reset_at.filter(|_| !self.is_cut)
    }

    /// Notes that the reader is gone; returns `true` if it left bytes unread.
    pub(super) fn reader_gone(&mut self) -> bool {
        self.is_unread = true;
        self.reader = None;
        self.wake_writer();
        self.segments.drain(..).any(|segment| !segment.bytes.is_empty())
    }

    /// Fails the reads of a process that has ended.
    pub(super) fn kill_reader(&mut self) {
        self.is_cut = false;
        self.is_unread = true;
        self.segments.clear();
        self.reset_at = Some(Instant::now());
        self.wake_reader();
        self.wake_writer();
    }

    /// Fails the writes of a process that has ended.
    pub(super) fn kill_writer(&mut self) {
        self.ended = true;
        self.wake_writer();
    }

    /// Returns `true` if bytes that are written now reach a host that no longer knows the connection.
    pub(super) const fn reaches_nobody(&self) -> bool {
        self.is_unread && !self.is_cut
    }

    /// Returns the time that a message takes now.
    fn latency(&mut self) -> Duration {
        self.link.draw_latency(&mut self.random)
    }

    fn wake_reader(&mut self) {
        for waker in [self.reader.take(), self.other_writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}
