//! [`Timers`]: a connection's deadlines, with one timer for all of them. It is set too early rather
//! than set again for every byte.

use std::task::{Context, Poll};
use std::time::Duration;

use farcall_protocol::time::later;
use farcall_protocol::{KeepAliveAction, KeepAliveTimer};
use farcall_transport::Timer;
use tokio::time::Instant;

use crate::limits::{Limits, MIN_TAKEN, MIN_TAKEN_PART};

/// The shortest time between two checks.
const MIN_TICK: Duration = Duration::from_millis(1);

/// The time without input after which a connection releases the memory that calls need. Longer, and many idle connections hold
/// buffers that none of them needs, also after each ping; much shorter, and memory is allocated for each of some calls.
const RELEASE_AFTER: Duration = Duration::from_secs(1);

/// A connection's deadlines.
pub(super) struct Timers {
    timer: Timer,
    keep_alive: KeepAliveTimer,
    /// The longest time between two checks.
    max_tick: Duration,
    frame_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    /// When the message that is being read must be complete. `None` while it is this side that does
    /// not read.
    frame_deadline: Option<Instant>,
    /// `None` while nothing waits for the peer.
    write_stall: Option<WriteStall>,
    /// The position in the stream at which the socket had no room last. `None` once nothing waits for the peer.
    full_at: Option<u64>,
    /// `true` if something was received since the last check; then the next one is within [`RELEASE_AFTER`].
    has_received: bool,
}

/// A time in which the peer does not take all that waits for it at once.
#[derive(Clone, Copy, Debug)]
struct WriteStall {
    /// When the peer must have taken some of it.
    deadline: Instant,
    /// The position in the stream that it must have reached by then.
    position: u64,
    /// The most that has waited since the stall began, in bytes.
    most: usize,
}

/// A deadline that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// A message was not complete in time.
    Frame(Duration),
    /// The peer took nothing, or too little, of what waits for it.
    Write,
}

impl Timers {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let max_tick = limits.keep_alive.idle;
        Self {
            // The handshake has left a buffer.
            has_received: true,
            timer: Timer::new(now + RELEASE_AFTER.min(max_tick)),
            keep_alive: KeepAliveTimer::new(limits.keep_alive, now.into_std()),
            max_tick,
            frame_timeout: limits.frame_timeout,
            write_timeout: limits.write_timeout,
            frame_deadline: None,
            write_stall: None,
            full_at: None,
        }
    }

    /// Ready when it is time for the next check.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(cx)
    }

    /// Sets the next check, after one at `now`.
    pub(super) fn set_next(&mut self, next: Instant, now: Instant) {
        self.timer.reset(next.max(now + MIN_TICK));
    }

    /// Brings the next check forward to `time`, if it would come later.
    pub(super) fn wake_by(&mut self, time: Instant) {
        if time < self.timer.deadline() {
            self.timer.reset(time);
        }
    }

    /// Notes that the peer has sent something.
    #[inline]
    pub(super) fn received(&mut self, now: Instant) {
        self.keep_alive.heard(now.into_std());
        if !std::mem::replace(&mut self.has_received, true) {
            self.wake_by(now + RELEASE_AFTER);
        }
    }

    /// Returns when the connection may have become idle, for the next check; `None` if it has been since the last check.
    pub(super) fn check_idle(&mut self, now: Instant) -> Option<Instant> {
        std::mem::take(&mut self.has_received).then(|| now + RELEASE_AFTER)
    }

    /// Notes that a message is incomplete at `now`; only the first note counts.
    #[inline]
    pub(super) fn frame_started(&mut self, now: Instant) {
        if self.frame_deadline.is_none()
            && let Some(limit) = self.frame_timeout
        {
            let deadline = later(now, limit);
            self.frame_deadline = Some(deadline);
            self.wake_by(deadline);
        }
    }

    /// Notes that the message is complete, or no longer read.
    #[inline]
    pub(super) fn frame_finished(&mut self) {
        self.frame_deadline = None;
    }

    /// Notes that the peer, which has taken `sent` bytes since the connection began, does not take
    /// `waiting` more. Returns `Poll::Pending`, as the caller does.
    pub(super) fn write_stalled<T>(&mut self, sent: u64, waiting: usize) -> Poll<T> {
        if self.full_at.replace(sent).is_some_and(|full_at| full_at < sent) {
            // There was no room, and there was some again: the peer's host has taken bytes.
            self.keep_alive.progressed(Instant::now().into_std());
        }
        if self.write_stall.is_none() {
            self.await_taking(Instant::now(), sent, waiting, waiting);
        }
        Poll::Pending
    }

    /// Sets what the peer must have taken until `write_timeout` after `now`: all of it in a bounded
    /// number of such times, not a byte in each.
    fn await_taking(&mut self, now: Instant, sent: u64, waiting: usize, most: usize) {
        let Some(limit) = self.write_timeout else { return };
        // What a layer below still holds is taken when that takes more, or has nothing left.
        let due = waiting.min(MIN_TAKEN.max(most / MIN_TAKEN_PART)).max(1);
        let deadline = later(now, limit);
        self.write_stall = Some(WriteStall { deadline, position: sent + due as u64, most });
        self.wake_by(deadline);
    }

    /// Notes that the peer has taken everything.
    #[inline]
    pub(super) fn write_finished(&mut self) {
        if self.full_at.take().is_some() {
            self.keep_alive.progressed(Instant::now().into_std());
        }
        self.write_stall = None;
    }

    /// Returns the deadline that has passed, if any; else the time of the next check. The peer has
    /// taken `sent` bytes since the connection began, and `waiting` more wait for it.
    pub(super) fn check(&mut self, now: Instant, sent: u64, waiting: usize) -> Result<Instant, Expired> {
        let mut next = later(now, self.max_tick);
        if let Some(WriteStall { deadline, position, most }) = self.write_stall
            && deadline <= now
        {
            if sent < position {
                return Err(Expired::Write);
            }
            self.await_taking(now, sent, waiting, most.max(waiting));
        }
        if let Some(stall) = self.write_stall {
            next = next.min(stall.deadline);
        }
        if let Some(deadline) = self.frame_deadline {
            if deadline <= now {
                return Err(Expired::Frame(self.frame_timeout.unwrap_or_default()));
            }
            next = next.min(deadline);
        }
        Ok(next)
    }

    /// Returns the action that keep-alive calls for at `now`. The peer counts as alive if
    /// `is_excused`.
    pub(super) fn check_keep_alive(&mut self, now: Instant, is_excused: bool) -> KeepAliveAction {
        if is_excused {
            self.keep_alive.heard(now.into_std());
        }
        self.keep_alive.check(now.into_std())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timers(limits: &Limits) -> (Timers, Instant) {
        let now = Instant::now();
        (Timers::new(limits, now), now)
    }

    #[tokio::test(start_paused = true)]
    async fn frame_that_is_not_complete_in_time_expires() {
        let (mut timers, now) = timers(&Limits::default().frame_timeout(2 * SECOND));
        timers.frame_started(now);
        timers.frame_started(now + SECOND);
        assert_eq!(timers.check(now + SECOND, 0, 0), Ok(now + 2 * SECOND));
        assert_eq!(timers.check(now + 2 * SECOND, 0, 0), Err(Expired::Frame(2 * SECOND)));
        timers.frame_finished();
        assert!(timers.check(now + 2 * SECOND, 0, 0).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_takes_nothing_expires() {
        let (mut timers, now) = timers(&Limits::default().write_timeout(SECOND));
        for waiting in [0, 1, 1_000_000] {
            assert!(timers.write_stalled::<()>(10, waiting).is_pending());
            assert_eq!(timers.check(now + SECOND, 10, waiting), Err(Expired::Write));
            timers.write_finished();
            assert!(timers.check(now + SECOND, 10, waiting).is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_takes_too_little_each_time_expires() {
        let (mut timers, now) = timers(&Limits::default().write_timeout(SECOND));
        const WAITING: usize = 4_000_000;
        assert!(timers.write_stalled::<()>(0, WAITING).is_pending());
        let too_few = WAITING / MIN_TAKEN_PART - 1;
        assert_eq!(timers.check(now + SECOND, too_few as u64, WAITING - too_few), Err(Expired::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_peer_takes_all_in_a_bounded_time() {
        let (mut timers, now) = timers(&Limits::default().write_timeout(SECOND));
        const WAITING: usize = 4_000_000;
        assert!(timers.write_stalled::<()>(0, WAITING).is_pending());
        let step = WAITING / MIN_TAKEN_PART;
        for n in 1..MIN_TAKEN_PART {
            let (time, sent) = (now + n as u32 * SECOND, n * step);
            let next = timers.check(time, sent as u64, WAITING - sent);
            assert_eq!(next, Ok(time + SECOND), "{n}");
        }
        // The little that is left may take as long once more.
        let time = now + MIN_TAKEN_PART as u32 * SECOND;
        assert_eq!(timers.check(time, (WAITING - step - 1) as u64, 1), Err(Expired::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_receives_nothing_is_idle_at_the_second_check() {
        let (mut timers, now) = timers(&Limits::default());
        assert_eq!(timers.timer.deadline(), now + RELEASE_AFTER);
        assert_eq!(timers.check_idle(now + SECOND), Some(now + SECOND + RELEASE_AFTER));
        assert_eq!(timers.check_idle(now + 2 * SECOND), None);
        timers.set_next(now + 12 * SECOND, now + 2 * SECOND);
        for time in [now + 5 * SECOND, now + 6 * SECOND] {
            timers.received(time);
            assert_eq!(timers.timer.deadline(), now + 5 * SECOND + RELEASE_AFTER, "the first note counts");
        }
        assert!(timers.check_idle(now + 6 * SECOND).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn without_limits_nothing_expires() {
        let (mut timers, now) = timers(&Limits::default().frame_timeout(None).write_timeout(None));
        timers.frame_started(now);
        assert!(timers.write_stalled::<()>(0, 100).is_pending());
        assert!(timers.check(now + 1_000_000 * SECOND, 0, 100).is_ok());
    }
}
