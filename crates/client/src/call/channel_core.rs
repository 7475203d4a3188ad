//! The state that the calls of a channel share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::Codec;

use super::attempt_report::AttemptObserver;
use super::request::Request;
use super::retry_budget::{Budget, RetryBudget};
use super::retry_policy::RetryPolicy;
use super::send_request::SendRequest;
use super::stream::registry::StreamRegistry;
use crate::connection::pool::ConnectionPool;
use crate::endpoints::Endpoints;
use crate::error::RpcError;
use crate::totals::Totals;

/// The state that the calls of a channel share.
pub(crate) struct ChannelCore {
    pub(crate) targets: Targets,
    /// The codec of arguments.
    pub(crate) codec: Codec,
    /// The time of a call that sets none.
    pub(crate) timeout: Option<Duration>,
    pub(crate) budget: Budget,
    /// Told about further attempts of calls.
    pub(crate) on_retry: AttemptObserver,
    /// The streaming calls that are open.
    pub(crate) streams: StreamRegistry,
    /// The layers around the calls; `None` if there are none.
    pub(super) layers: Option<Box<dyn SendRequest>>,
    retry: RetryPolicy,
    wait_for_ready: bool,
    totals: Arc<Totals>,
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
        let totals = match &targets {
            Targets::One(_) => Arc::default(),
            Targets::Many(endpoints) => Arc::clone(endpoints.totals()),
        };
        Self {
            targets,
            codec,
            timeout: None,
            budget: Budget::new(RetryBudget::default()),
            on_retry: AttemptObserver::default(),
            streams: StreamRegistry::default(),
            layers: None,
            retry: RetryPolicy::default(),
            wait_for_ready: false,
            totals,
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

    /// Counts a failed attempt. Successes are not counted: there are enough of them to contend for the counter.
    pub(crate) fn count_failure(&self, error: &RpcError) {
        self.totals.count_error(error.code());
    }

    /// Returns `true` if there is no endpoint, and waiting for one is of no use.
    pub(crate) fn is_hopeless(&self) -> bool {
        match &self.targets {
            Targets::One(_) => false,
            Targets::Many(endpoints) => endpoints.is_hopeless(),
        }
    }

    /// Returns the number of failed attempts.
    pub(crate) fn failures(&self) -> u64 {
        self.totals.errors().into_iter().map(|(_, errors)| errors).sum()
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
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
