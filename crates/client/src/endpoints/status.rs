//! The public view of a channel's endpoints.

use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::Endpoint;
use farcall_protocol::LoadReport;

use crate::error::RpcError;

/// An endpoint of a channel, and what the channel's calls have found out about it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// The endpoint as its discovery describes it.
    pub endpoint: Arc<Endpoint>,
    /// The endpoint's health, as the channel's calls have found it.
    pub health: Health,
    /// `true` if the balancer leaves it out, as a [`Subset`](farcall_discovery::Subset) does: it gets no calls but broadcasts.
    pub is_outside: bool,
    /// Connections that take calls.
    pub connections: usize,
    /// Calls in flight.
    pub in_flight: usize,
    /// The moving average of latency, which rises at once and falls slowly; zero if unknown.
    pub latency: Duration,
    /// The load that its server reports, as a moving average; `None` if it reports none, or has not for 3 minutes.
    pub reported_load: Option<LoadReport>,
    /// The time since the last report; `None` as for `reported_load`.
    pub report_age: Option<Duration>,
    /// Attempts of calls that were made there since the endpoint was found.
    pub calls: u64,
    /// Those of them that ended with an error, the method's own included.
    pub failures: u64,
}

/// The health of an endpoint, as a channel's calls have found it.
///
/// [`EndpointState`](crate::EndpointState) has the same words, and one for endpoints that are being drained.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// The endpoint gets calls, unless it is being drained.
    Healthy,
    /// The endpoint cannot be connected to, and is dialed again and again.
    Unreachable {
        /// The time since it became unreachable.
        since: Duration,
        /// The error of the last dial.
        error: RpcError,
    },
    /// The endpoint gets no calls, since too many in a row failed, until a probe succeeds.
    Ejected {
        /// The time since it was ejected.
        since: Duration,
        /// The error of the last call or probe.
        error: RpcError,
    },
}
