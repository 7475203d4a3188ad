//! The state that the calls of a channel share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall_protocol::Codec;

use super::request::Request;
use super::retry_budget::{Budget, RetryBudget};
use super::retry_policy::RetryPolicy;
use super::send_request::SendRequest;
use crate::connection::pool::ConnectionPool;
use crate::endpoints::Endpoints;

/// The state that the calls of a channel share.
pub(crate) struct ChannelCore {
    pub(crate) targets: Targets,
    /// The codec of arguments.
    pub(crate) codec: Codec,
    /// The time of a call that sets none.
    pub(crate) timeout: Option<Duration>,
    pub(crate) budget: Budget,
    /// The layers around the calls; `None` if there are none.
    pub(super) layers: Option<Box<dyn SendRequest>>,
    retry: RetryPolicy,
    wait_for_ready: bool,
    /// Failed attempts at the only endpoint. Backends of many count their own.
    failures: AtomicU64,
}

/// The endpoints of a channel.
#[derive(Debug)]
pub(crate) enum Targets {
    /// One address: nothing is chosen, counted or judged.
    One(ConnectionPool),
    /// Endpoints that a discovery finds.
    Many(Endpoints),
}

impl ChannelCore {
    pub(crate) fn new(targets: Targets, codec: Codec) -> Self {
        Self {
            targets,
            codec,
            timeout: None,
            budget: Budget::new(RetryBudget::default()),
            layers: None,
            retry: RetryPolicy::default(),
            wait_for_ready: false,
            failures: AtomicU64::new(0),
        }
    }

    /// Sets what is done about calls that fail, and whether calls wait while no endpoint can be reached.
    pub(crate) fn with_retry(self, retry: RetryPolicy, wait_for_ready: bool) -> Self {
        Self { retry, wait_for_ready, ..self }
    }

    /// Puts `layers` around the calls.
    pub(crate) fn with_layers(self, layers: Box<dyn SendRequest>) -> Self {
        Self { layers: Some(layers), ..self }
    }

    /// Counts a failed attempt at the only endpoint. Successes are not counted: there are enough of them to contend
    /// for the counter.
    pub(crate) fn count_failure(&self) {
        if let Targets::One(_) = self.targets {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns the policy of calls that set none.
    pub(crate) const fn default_retry_policy(&self) -> RetryPolicy {
        self.retry
    }

    pub(crate) fn retry_policy(&self, request: &Request) -> RetryPolicy {
        request.retry().unwrap_or(self.retry)
    }

    pub(crate) fn waits_for_ready(&self, request: &Request) -> bool {
        request.wait_for_ready().unwrap_or(self.wait_for_ready)
    }
}

impl fmt::Debug for ChannelCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelCore").field("targets", &self.targets).finish_non_exhaustive()
    }
}
