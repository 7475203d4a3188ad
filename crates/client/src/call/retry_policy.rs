//! [`RetryPolicy`]: the reaction to a call that failed and may be made again.

use std::fmt;
use std::time::Duration;

use farcall_transport::HumanDuration;

/// The reaction to a call that failed, if it may be made again: nothing of it was done, or it
/// is idempotent.
///
/// Whether a call may be retried is decided by its [`Execution`](farcall_protocol::Execution)
/// and never by the policy: `not_sent` always, `refused` if another server may answer otherwise,
/// `maybe` if the call is idempotent, `done` never. A call that is idempotent only at the same server
/// ([`Call::idempotent_at_same_server`](crate::Call::idempotent_at_same_server)) goes to no other after a `maybe`.
///
/// A server that refuses a call since it has too many can say when another attempt makes sense, by `farcall-retry-after-ms`
/// in the metadata of its answer. The call is then made at another endpoint as always, and if there is none that was not
/// tried, at the same one after that time, and up to a quarter more at random. Attempts, deadline and [`RetryBudget`](crate::RetryBudget) are the
/// limits then, too; a server that asks for more than 30 s is not waited for.
///
/// ```
/// use std::time::Duration;
///
/// use farcall_client::{Channel, RetryPolicy};
///
/// // Two attempts at most; an idempotent call that is not answered within 50 ms is also sent elsewhere.
/// let policy = RetryPolicy::hedge_after(Duration::from_millis(50)).max_attempts(2);
/// let channel = Channel::builder().to("tcp@10.0.0.3:7001").to("tcp@10.0.0.4:7001").retry(policy).build()?;
/// assert_eq!(policy.to_string(), "hedge after 50 ms, 2 attempts");
/// # Ok::<(), farcall_client::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RetryPolicy {
    pub(super) mode: RetryMode,
    pub(super) max_attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryMode {
    FailFast,
    FailOver,
    SameEndpoint,
    /// With the time without a reply after which a second request is sent.
    Hedge(Duration),
}

/// The default number of attempts of a call, including the first.
const DEFAULT_ATTEMPTS: u32 = 3;

impl RetryPolicy {
    /// Does not retry. For calls that are worthless when late.
    pub const fn fail_fast() -> Self {
        Self { mode: RetryMode::FailFast, max_attempts: 1 }
    }

    /// Retries on another endpoint that the call was not sent to. The default, with 3
    /// attempts. With one endpoint, a call is retried only if its connection was at fault, or if the server says when.
    pub const fn fail_over() -> Self {
        Self { mode: RetryMode::FailOver, max_attempts: DEFAULT_ATTEMPTS }
    }

    /// Retries on the same endpoint, for state that only that one has. 3 attempts by default. If
    /// it cannot be connected to, the call fails at once, unless it
    /// [waits for ready](crate::Call::wait_for_ready).
    pub const fn retry_same() -> Self {
        Self { mode: RetryMode::SameEndpoint, max_attempts: DEFAULT_ATTEMPTS }
    }

    /// Retries as [`RetryPolicy::fail_over`] does; in addition, if no reply arrives within `delay`, sends a second
    /// (hedged) request to another endpoint. The first reply counts, and the other request
    /// is cancelled. Only calls that are idempotent at all servers are sent twice, and only within the retry budget; the
    /// hedged request does not count as an attempt. An error counts as a reply if another attempt could not help. A
    /// good delay is the 95th to 99th percentile of the method's latency: too short, and every
    /// call is made twice; too long, and hedging has no effect. See Dean and Barroso, "The Tail at
    /// Scale", Communications of the ACM 56/2, 2013.
    pub const fn hedge_after(delay: Duration) -> Self {
        Self { mode: RetryMode::Hedge(delay), max_attempts: DEFAULT_ATTEMPTS }
    }

    /// Sets the number of attempts that may reach a server, including the first; at least 1. Default 3. Too many, and
    /// a cluster in trouble gets more load, within the retry budget; too few, and calls fail that
    /// another server would have answered. Attempts of which nothing was sent do not count: endpoints that cannot be
    /// connected to are tried once each, and a call whose connection ends while it waits for a place or for its
    /// request to be written is made over the next one. Neither do the first 20 that a goaway has refused, since the server
    /// drains, or the connection has reached its largest age; one that a server refuses for its load does. There are a
    /// thousand attempts in all at most.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = if attempts == 0 { 1 } else { attempts };
        self
    }
}

impl fmt::Display for RetryPolicy {
    /// Writes a few words for status pages: `fail over, 3 attempts`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            RetryMode::FailFast => return f.write_str("fail fast"),
            RetryMode::FailOver => f.write_str("fail over")?,
            RetryMode::SameEndpoint => f.write_str("retry the same endpoint")?,
            RetryMode::Hedge(delay) => write!(f, "hedge after {}", HumanDuration(delay))?,
        }
        match self.max_attempts {
            1 => f.write_str(", 1 attempt"),
            attempts => write!(f, ", {attempts} attempts"),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::fail_over()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_is_shown_in_a_few_words() {
        for (policy, shown) in [
            (RetryPolicy::fail_fast(), "fail fast"),
            (RetryPolicy::default(), "fail over, 3 attempts"),
            (RetryPolicy::fail_over().max_attempts(1), "fail over, 1 attempt"),
            (RetryPolicy::fail_over().max_attempts(0), "fail over, 1 attempt"),
            (RetryPolicy::retry_same().max_attempts(2), "retry the same endpoint, 2 attempts"),
            (RetryPolicy::hedge_after(Duration::from_millis(50)), "hedge after 50 ms, 3 attempts"),
        ] {
            assert_eq!(policy.to_string(), shown);
        }
    }
}
