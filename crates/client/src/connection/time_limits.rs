//! [`TimeLimits`]: the timer of a connection's task, and the limits that do not belong to calls: of silence, of writes that
//! stall, and of the end. The deadlines of calls are left to [`Shared`].

use std::task::{Context, Poll};
use std::time::Duration;

use farcall_protocol::time::later;
use farcall_protocol::{KeepAliveAction, KeepAliveTimer, Seq};
use farcall_runtime::time::Instant;
use farcall_transport::{HumanDuration, Timer};

use super::options::ConnectionOptions;
use super::shared::Shared;

/// The timer of a connection's task, and what is due when it expires.
pub(super) struct TimeLimits {
    timer: Timer,
    silence: KeepAliveTimer,
    /// The longest interval between two expiries of the timer.
    idle: Duration,
    write_timeout: Duration,
    /// When the server stopped accepting bytes.
    write_stalled: Option<Instant>,
    /// The deadline for the server to close; set once everything was written.
    close_by: Option<Instant>,
    /// `None` if the connection may be without calls.
    unused: Option<Unused>,
}

/// The time since the last call of a connection that is closed after some time without.
struct Unused {
    limit: Duration,
    since: Instant,
    /// The number of the last call.
    last: Seq,
    /// `true` if a call was in flight when this was checked last.
    was_used: bool,
}

/// The shortest interval between two expiries of the timer.
const MIN_TICK: Duration = Duration::from_millis(1);
/// The time that the server has to close the connection after this side did. Calls whose callers have gone may
/// still run there, and the server has to see the end of the stream, not a reset.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

impl TimeLimits {
    pub(super) fn new(options: &ConnectionOptions, now: Instant) -> Self {
        Self {
            timer: Timer::new(later(now, options.keep_alive.idle)),
            silence: KeepAliveTimer::new(options.keep_alive, now.into_std()),
            idle: options.keep_alive.idle.max(MIN_TICK),
            write_timeout: options.write_limit(),
            write_stalled: None,
            close_by: None,
            unused: options.max_unused.map(|limit| Unused::new(limit, now)),
        }
    }

    /// Notes that the server was heard.
    pub(super) fn heard(&mut self, now: Instant) {
        self.silence.heard(now.into_std());
    }

    /// Starts the write timeout, since the server accepts no bytes.
    pub(super) fn write_stalls(&mut self) {
        if self.write_stalled.is_none() {
            let now = Instant::now();
            self.write_stalled = Some(now);
            self.wake_by(later(now, self.write_timeout));
        }
    }

    /// Ends the write timeout. If it had begun, the server's host has taken what was written before.
    pub(super) fn write_goes_on(&mut self) {
        if self.write_stalled.take().is_some() {
            self.silence.progressed(Instant::now().into_std());
        }
    }

    /// Starts the time in which the server has to close.
    pub(super) fn begin_close(&mut self) {
        let by = later(Instant::now(), CLOSE_TIMEOUT);
        self.close_by = Some(by);
        self.wake_by(by);
    }

    pub(super) const fn is_closing(&self) -> bool {
        self.close_by.is_some()
    }

    /// Lets the timer expire at `time`, if it would expire later.
    pub(super) fn wake_by(&mut self, time: Instant) {
        if time < self.timer.deadline() {
            self.timer.reset(time);
        }
    }

    /// Is ready when the timer has expired.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(cx)
    }

    /// Lets the timer expire at `next`, but not at once again.
    pub(super) fn set_next(&mut self, next: Instant, now: Instant) {
        self.timer.reset(next.max(now + MIN_TICK));
    }

    /// Returns when the timer has to expire next. Sends a ping if the server has been silent, and stops a connection that was
    /// without calls for too long.
    ///
    /// # Errors
    ///
    /// The connection is dead, for this reason.
    pub(super) fn check(&mut self, now: Instant, shared: &Shared) -> Result<Instant, String> {
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
        if let Some(unused) = &mut self.unused {
            next = next.min(unused.check(now, shared));
        }
        match self.silence.check(now.into_std()) {
            KeepAliveAction::Until(time) => next = next.min(time.into()),
            KeepAliveAction::Ping(time) => {
                shared.ping();
                next = next.min(time.into());
            }
            KeepAliveAction::Dead => return Err("it did not answer a ping".to_owned()),
        }
        Ok(next)
    }
}

impl Unused {
    const fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, since: now, last: Seq(0), was_used: false }
    }

    /// Stops the connection if it was without calls for too long. Returns when to look again.
    fn check(&mut self, now: Instant, shared: &Shared) -> Instant {
        let (last, in_flight) = shared.calls();
        let is_used = in_flight > 0;
        // A call that was in flight has ended since: within the last second, because its reply lets the timer expire then.
        let was_used = std::mem::replace(&mut self.was_used, is_used);
        if is_used || was_used || last != self.last {
            (self.since, self.last) = (now, last);
        } else if now.saturating_duration_since(self.since) >= self.limit && shared.is_open() {
            shared.stop(format!("it was not used for {}", HumanDuration(self.limit)));
        }
        later(if shared.is_open() { self.since } else { now }, self.limit)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use farcall_protocol::{Body, Codec, Flags, Negotiated};
    use farcall_transport::Address;

    use super::super::in_flight::ReplyParts;
    use super::super::request::EncodedRequest;
    use super::*;

    #[test]
    fn time_without_calls_begins_when_the_last_call_ends() {
        let options = ConnectionOptions::default();
        let address = Address::parse("tcp@10.0.0.3:7001").unwrap();
        let shared = Shared::new(Negotiated::new(Codec::default()), address, &options);
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut unused = Unused::new(Duration::from_secs(30), begin);
        let body = Body::default();
        let request = EncodedRequest::new("A.a", &body, None, Flags::NONE, None, &shared.negotiated).unwrap();
        let (seq, _) = shared.enqueue(&request, None).unwrap();
        // The timer expires a second after bytes were read, and when the check says so.
        assert_eq!(unused.check(at(1), &shared), at(31));
        assert_eq!(unused.check(at(31), &shared), at(61));
        shared.complete(&mut vec![(seq, ReplyParts::from_body(Bytes::new()))], &mut Vec::new());
        assert_eq!(unused.check(at(60), &shared), at(90));
        assert_eq!(unused.check(at(61), &shared), at(90));
        assert!(shared.is_open());
        unused.check(at(90), &shared);
        assert_eq!(shared.close_reason(), "it was not used for 30 s");
    }
}
