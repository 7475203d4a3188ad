//! [`TimeLimits`]: the timer of a connection's task, and the limits that do not belong to calls: of silence, of writes that
//! stall, and of the end. The deadlines of calls are left to [`Shared`].

use std::task::{Context, Poll};
use std::time::Duration;

use farcall_protocol::time::later;
use farcall_protocol::{KeepAliveAction, KeepAliveTimer};
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

    /// Returns when the timer has to expire next. Sends a ping if the server has been silent.
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
