//! When to ask a silent peer whether it lives, and when to take it for dead. Time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::time::later;

/// The two times of keeping alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence after which a ping is sent. Default 10 s.
    pub idle: Duration,
    /// Further silence after which the connection is dead. Default 5 s.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(10), timeout: Duration::from_secs(5) }
    }
}

/// Watches over one connection's silence.
#[derive(Clone, Debug)]
pub struct KeepAliveTimer {
    times: KeepAlive,
    heard: Instant,
    pinged: Option<Instant>,
}

/// What silence asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAliveAction {
    /// Nothing yet; look again at this time.
    Until(Instant),
    /// Send a ping now, and look again at this time.
    Ping(Instant),
    /// The connection is dead.
    Dead,
}

impl KeepAliveTimer {
    /// Begins to watch.
    #[must_use]
    pub const fn new(times: KeepAlive, now: Instant) -> Self {
        Self { times, heard: now, pinged: None }
    }

    /// Something was heard, be it a single byte.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
    }

    /// What is due at `now`.
    pub fn check(&mut self, now: Instant) -> KeepAliveAction {
        match self.pinged {
            None => {
                let due = later(self.heard, self.times.idle);
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

/// How many pings a peer may send within [`PING_WINDOW`].
pub const MAX_PINGS: usize = 10;
/// The time over which pings are counted.
pub const PING_WINDOW: Duration = Duration::from_secs(5);

/// Notices a peer that pings too often.
#[derive(Clone, Debug, Default)]
pub(crate) struct PingRate {
    /// When the last pings came; at most [`MAX_PINGS`].
    seen: VecDeque<Instant>,
}

impl PingRate {
    /// Counts a ping; whether it is still within the bound.
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
    fn silence_is_asked_about_once_and_then_deadly() {
        let start = Instant::now();
        let mut silence = KeepAliveTimer::new(KeepAlive::default(), start);
        assert_eq!(silence.check(start + 9 * S), KeepAliveAction::Until(start + 10 * S));
        assert_eq!(silence.check(start + 10 * S), KeepAliveAction::Ping(start + 15 * S));
        assert_eq!(silence.check(start + 14 * S), KeepAliveAction::Until(start + 15 * S));
        assert_eq!(silence.check(start + 15 * S), KeepAliveAction::Dead);
    }

    #[test]
    fn a_byte_begins_the_silence_anew() {
        let start = Instant::now();
        let mut silence = KeepAliveTimer::new(KeepAlive::default(), start);
        assert_eq!(silence.check(start + 10 * S), KeepAliveAction::Ping(start + 15 * S));
        silence.heard(start + 14 * S);
        assert_eq!(silence.check(start + 15 * S), KeepAliveAction::Until(start + 24 * S));
    }

    #[test]
    fn a_time_without_end_is_no_overflow() {
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
    fn the_eleventh_ping_within_five_seconds_is_too_many() {
        let start = Instant::now();
        let mut rate = PingRate::default();
        for n in 0..10 {
            assert!(rate.allows(start + n * S / 4));
        }
        assert!(!rate.allows(start + 4 * S));
        assert!(rate.allows(start + 5 * S));
    }
}
