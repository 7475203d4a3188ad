//! What is due on a connection by the clock: one timer for all of it, which is set too early
//! rather than set anew for every byte.

use std::task::{Context, Poll};
use std::time::Duration;

use farcall_protocol::{Code, HeaderRef, KeepAliveAction, Kind, Seq, Status};
use tokio::time::Instant;

use super::{Connection, End, Phase};
use crate::limits::after;

/// The timer never fires more often than this.
const MIN_TICK: Duration = Duration::from_millis(1);

impl Connection {
    /// Has the timer look again at `time`, if it would not by itself.
    pub(super) fn wake_by(&mut self, time: Instant) {
        if time < self.timer.deadline() {
            self.timer.as_mut().reset(time);
        }
    }

    /// Does what is due by the clock.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let appended = self.outbox.appended();
            match self.due(now) {
                Ok(next) => self.timer.as_mut().reset(next.max(now + MIN_TICK)),
                Err(end) => return Poll::Ready(end),
            }
            if self.outbox.appended() > appended {
                // This turn's writing is over: what the clock had to say is for the next.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    /// Does what is due at `now`, and says when to look again.
    fn due(&mut self, now: Instant) -> Result<Instant, End> {
        let limits = &self.home.core.limits;
        let (frame_timeout, write_timeout) = (limits.frame_timeout, limits.write_timeout);
        let mut next = after(now, limits.keep_alive.idle);
        if let Phase::Shutting(until) | Phase::Lingering(until) = self.phase {
            if now >= until {
                return Err(End::Finished);
            }
            next = next.min(until);
        }
        if let Some(stalled) = self.write_stalled {
            let until = after(stalled, write_timeout);
            if now >= until {
                return Err(End::Dead("it took nothing of what waits for it"));
            }
            next = next.min(until);
        }
        if let Some(begun) = self.frame_begun {
            let until = after(begun, frame_timeout);
            if now >= until {
                let message = format!("a message was not complete within {frame_timeout:?}");
                self.close_with(&Status::maybe(Code::DeadlineExceeded, message));
            } else {
                next = next.min(until);
            }
        }
        if matches!(self.phase, Phase::Open | Phase::Finishing) {
            next = next.min(self.keep_alive(now)?);
            self.give_back_memory();
        }
        Ok(next)
    }

    /// Asks a silent peer whether it lives, and says when to look again.
    fn keep_alive(&mut self, now: Instant) -> Result<Instant, End> {
        if self.unread || self.eof {
            // It is not read from, or has closed its half and can't say more: either silence is
            // none of its own.
            self.silence.heard(now.into_std());
        }
        match self.silence.check(now.into_std()) {
            KeepAliveAction::Until(time) => Ok(time.into()),
            KeepAliveAction::Ping(time) => {
                self.push(&HeaderRef::new(Kind::Ping, Seq(1)));
                Ok(time.into())
            }
            KeepAliveAction::Dead => Err(End::Dead("it did not answer a ping")),
        }
    }
}
