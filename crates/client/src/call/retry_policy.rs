//! What a channel does about a call that failed and may be made again.

use std::fmt;
use std::time::Duration;

use farcall_transport::HumanDuration;

/// What to do about a call that failed, where it may be made again: nothing of it was done, or it
/// is idempotent.
///
/// Whether a call may be tried again is decided by its [`Execution`](farcall_protocol::Execution)
/// and never by the mode: `not_sent` always, `refused` where another server may say otherwise,
/// `maybe` where the call is idempotent, `done` never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    pub(crate) kind: Kind,
    pub(crate) tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Fast,
    Over,
    Again,
    Backup(Duration),
}

/// The tries of a call, the first included.
const TRIES: u32 = 3;

impl RetryPolicy {
    /// The first failure is the call's. Right for calls that are worthless when late.
    #[must_use]
    pub const fn fail_fast() -> Self {
        Self { kind: Kind::Fast, tries: 1 }
    }

    /// Tries again on another endpoint, one that the call has not been to. The default, with 3
    /// tries. With one endpoint a call is made again only where its connection was at fault.
    #[must_use]
    pub const fn fail_over() -> Self {
        Self { kind: Kind::Over, tries: TRIES }
    }

    /// Tries again on the same endpoint, for state that only that one has. 3 tries by default. Where
    /// it cannot be connected to, the call fails at once, unless it
    /// [waits for ready](crate::Call::wait_for_ready).
    #[must_use]
    pub const fn retry_same() -> Self {
        Self { kind: Kind::Again, tries: TRIES }
    }

    /// As [`RetryPolicy::fail_over`], and a try that is not answered after `delay` is given
    /// company: a second request to another endpoint. The first answer counts, the other request
    /// is cancelled. Only idempotent calls are sent twice, and only within the retry budget; the
    /// second request does not count as a try. An error is an answer where no further try could help. A
    /// good delay is the 95th to 99th percentile of the method's latency: too short, and every
    /// call is made twice; too long, and it helps nobody. See Dean and Barroso, "The Tail at
    /// Scale", Communications of the ACM 56/2, 2013.
    #[must_use]
    pub const fn hedge_after(delay: Duration) -> Self {
        Self { kind: Kind::Backup(delay), tries: TRIES }
    }

    /// The tries that may reach a server, the first included; at least 1. Default 3. Too many, and
    /// a cluster in trouble is kicked, within the retry budget; too few, and calls fail that
    /// another server would have answered. Endpoints that cannot be connected to do not count: of
    /// those, each is tried once, up to a thousand.
    #[must_use]
    pub const fn tries(mut self, tries: u32) -> Self {
        self.tries = if tries == 0 { 1 } else { tries };
        self
    }
}

impl fmt::Display for RetryPolicy {
    /// In a few words, for people: `fail over, 3 tries`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Fast => return f.write_str("fail fast"),
            Kind::Over => f.write_str("fail over")?,
            Kind::Again => f.write_str("try the same again")?,
            Kind::Backup(delay) => write!(f, "back up after {}", HumanDuration(delay))?,
        }
        match self.tries {
            1 => f.write_str(", 1 try"),
            tries => write!(f, ", {tries} tries"),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::fail_over()
    }
}
