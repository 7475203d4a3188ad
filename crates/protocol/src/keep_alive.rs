//! Keep-alive: pings to a silent peer, and the detection of a dead one. Time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use web_time::Instant;

use crate::time::later;

/// The two timeouts of keep-alive.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use farcall_protocol::{KeepAlive, KeepAliveAction, KeepAliveTimer};
///
/// let (start, second) = (Instant::now(), Duration::from_secs(1));
/// let keep_alive = KeepAlive::default().idle(2 * second);
/// let mut timer = KeepAliveTimer::new(keep_alive, start);
/// assert_eq!(timer.check(start + second), KeepAliveAction::Until(start + 2 * second));
/// assert_eq!(timer.check(start + 2 * second), KeepAliveAction::Ping(start + 7 * second));
/// assert_eq!(timer.check(start + 7 * second), KeepAliveAction::Dead);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepAlive {
    /// The silence after which a ping is sent. Default: 10 s. A low value costs traffic on idle connections.
    pub idle: Duration,
    /// The further silence after which the connection counts as dead, in which the peer's host takes nothing that waits
    /// to be written either. Default: 5 s. A value below the round trip time closes healthy connections, as does one below
    /// the time that a link takes for what the kernel buffers.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(10), timeout: Duration::from_secs(5) }
    }
}

impl KeepAlive {
    /// Creates the timeouts from both.
    #[must_use]
    pub const fn new(idle: Duration, timeout: Duration) -> Self {
        Self { idle, timeout }
    }

    /// Sets the silence after which a ping is sent.
    #[must_use]
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Sets the further silence after which the connection counts as dead.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// The keep-alive timer of one connection.
#[derive(Clone, Debug)]
pub struct KeepAliveTimer {
    times: KeepAlive,
    last_received: Instant,
    /// The time from which a ping is without an answer: when it was sent, or the peer's host took bytes last.
    pinged: Option<Instant>,
}

/// The action that is due after a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAliveAction {
    /// Nothing is due; check again at this time.
    Until(Instant),
    /// Send a ping now, and check again at this time.
    Ping(Instant),
    /// The connection is dead.
    Dead,
}

impl KeepAliveTimer {
    /// Starts the timer.
    #[must_use]
    pub const fn new(times: KeepAlive, now: Instant) -> Self {
        Self { times, last_received: now, pinged: None }
    }

    /// Records that bytes were received.
    pub fn heard(&mut self, now: Instant) {
        self.last_received = now;
        self.pinged = None;
    }

    /// Records that the peer's host has taken bytes for which there was no room before.
    ///
    /// A ping waits behind what was written before it, and so does its pong: a request of 4 MiB takes a slow link longer
    /// than a timeout. So the timeout begins again. It is no sign that the peer itself is alive, whose host takes bytes
    /// until its buffers are full: the ping is sent in any case, and once.
    pub fn progressed(&mut self, now: Instant) {
        if let Some(pinged) = &mut self.pinged {
            *pinged = now;
        }
    }

    /// Returns the action that is due at `now`.
    pub fn check(&mut self, now: Instant) -> KeepAliveAction {
        match self.pinged {
            None => {
                let due = later(self.last_received, self.times.idle);
                if now < due {
                    return KeepAliveAction::Until(due);
                }
                self.pinged = Some(now);
                KeepAliveAction::Ping(later(now, self.times.timeout))
            }
            Some(pinged) => {
                let due = later(pinged, self.times.timeout);
                if now < due { KeepAliveAction::Until(due) } else { KeepAliveAction::Dead }
            }
        }
    }
}

/// The number of pings that a peer may send within [`PING_WINDOW`].
pub const MAX_PINGS: usize = 10;
/// The time over which pings are counted.
pub const PING_WINDOW: Duration = Duration::from_secs(5);

/// A rate limit that detects a peer that pings too often.
#[derive(Clone, Debug, Default)]
pub(crate) struct PingRate {
    /// The times of the last pings; at most [`MAX_PINGS`].
    seen: VecDeque<Instant>,
}

impl PingRate {
    /// Counts a ping, and returns `true` if it is within the limit.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        while self.seen.front().is_some_and(|seen| now.duration_since(*seen) >= PING_WINDOW) {
            self.seen.pop_front();
        }
        if self.seen.len() == MAX_PINGS {
            return false;
        }
        self.seen.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn silent_peer_is_pinged_once_and_then_dead() {
        let start = Instant::now();
        let mut silence = KeepAliveTimer::new(KeepAlive::default(), start);
        assert_eq!(silence.check(start + 9 * S), KeepAliveAction::Until(start + 10 * S));
        assert_eq!(silence.check(start + 10 * S), KeepAliveAction::Ping(start + 15 * S));
        assert_eq!(silence.check(start + 14 * S), KeepAliveAction::Until(start + 15 * S));
        assert_eq!(silence.check(start + 15 * S), KeepAliveAction::Dead);
    }

    #[test]
    fn received_byte_restarts_the_timer() {
        let start = Instant::now();
        let mut silence = KeepAliveTimer::new(KeepAlive::default(), start);
        assert_eq!(silence.check(start + 10 * S), KeepAliveAction::Ping(start + 15 * S));
        silence.heard(start + 14 * S);
        assert_eq!(silence.check(start + 15 * S), KeepAliveAction::Until(start + 24 * S));
    }

    #[test]
    fn bytes_that_the_host_takes_give_the_pong_more_time_and_cause_no_further_ping() {
        let start = Instant::now();
        let mut silence = KeepAliveTimer::new(KeepAlive::default(), start);
        silence.progressed(start + 9 * S);
        assert_eq!(silence.check(start + 10 * S), KeepAliveAction::Ping(start + 15 * S), "as without them");
        for second in [14, 18, 22] {
            silence.progressed(start + second * S);
            assert_eq!(
                silence.check(start + (second + 4) * S),
                KeepAliveAction::Until(start + (second + 5) * S)
            );
        }
        assert_eq!(silence.check(start + 27 * S), KeepAliveAction::Dead);
    }

    #[test]
    fn maximum_durations_do_not_overflow() {
        let never = KeepAlive { idle: Duration::MAX, timeout: Duration::MAX };
        let start = Instant::now();
        let mut silence = KeepAliveTimer::new(never, start);
        assert!(
            matches!(silence.check(start + 3600 * S), KeepAliveAction::Until(at) if at > start + 3600 * S)
        );
        let mut silence = KeepAliveTimer::new(KeepAlive { idle: S, ..never }, start);
        assert!(matches!(silence.check(start + S), KeepAliveAction::Ping(_)));
        assert!(matches!(silence.check(start + 3600 * S), KeepAliveAction::Until(_)));
    }

    #[test]
    fn eleventh_ping_within_five_seconds_exceeds_the_limit() {
        let start = Instant::now();
        let mut rate = PingRate::default();
        for n in 0..10 {
            assert!(rate.allows(start + n * S / 4));
        }
        assert!(!rate.allows(start + 4 * S));
        assert!(rate.allows(start + 5 * S));
    }
}
