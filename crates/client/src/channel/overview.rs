//! [`ChannelOverview`]: the state of a channel at one moment, for a page or a program to show.

use std::time::Duration;

use farcall_discovery::Endpoint;
use farcall_protocol::time::millis;
use farcall_transport::Address;
use serde::Serialize;

use crate::call::channel_core::{ChannelCore, Targets};
use crate::call::stream::registry::StreamOverview;
use crate::connection::pool::ConnectionPool;
use crate::endpoints::Endpoints;
use crate::endpoints::status::{EndpointStatus, Health};
use crate::error::RpcError;

/// The state of a channel at one moment. It serializes to what a debug page reads; times are in the
/// unit that a field's name ends with.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ChannelOverview {
    /// The source of its endpoints: `the address tcp@10.0.0.3:7001`, `Arith at http://registry:7100`.
    pub source: String,
    /// The balancer: `least loaded`.
    pub balancer: String,
    /// The reaction to a call that failed: `fail over, 3 attempts`.
    pub retry_policy: String,
    /// Milliseconds since the list of endpoints was last known to be true; `None` if there is no
    /// list, or none yet.
    pub endpoints_age_ms: Option<u64>,
    /// Retries that the retry budget allows at this moment; `None` if it is unlimited.
    pub retries_left: Option<f64>,
    /// Calls in flight, to all endpoints.
    pub in_flight: usize,
    /// The endpoints, drained ones included, in the order of addresses, those outside of the balancer's subset last; at most
    /// [`ChannelOverview::MAX_ENDPOINTS`].
    pub endpoints: Vec<EndpointOverview>,
    /// The streaming calls that are open, the oldest first; at most [`ChannelOverview::MAX_STREAMS`].
    pub streams: Vec<StreamOverview>,
}

/// An endpoint of a channel.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EndpointOverview {
    /// The address that is dialed, such as `tcp@10.0.0.3:7001`.
    pub address: String,
    /// The zone of the endpoint, if that is known.
    pub zone: Option<String>,
    /// The share of the calls, relative to the weights of the others.
    pub weight: u16,
    /// The health, as the channel's calls have found it.
    pub state: EndpointState,
    /// Milliseconds since it became unreachable or was ejected; `None` if it is neither, or if that
    /// is unknown, as for a channel's only endpoint.
    pub since_ms: Option<u64>,
    /// The last error, if it is unreachable or ejected.
    pub reason: Option<String>,
    /// Connections that take calls.
    pub connections: usize,
    /// Calls in flight.
    pub in_flight: usize,
    /// The moving average of latency in microseconds; `None` if it is unknown, as for a channel's
    /// only endpoint.
    pub latency_us: Option<u64>,
    /// Attempts of calls that were made there since it was found; for the only endpoint of a channel, the calls of the
    /// channel, each counted once.
    pub calls: u64,
    /// Attempts there that ended with an error, the method's own included.
    pub failures: u64,
    /// The load that its server reports; `None` if it reports none, has not for 3 minutes, or is a channel's only endpoint.
    pub reported_load: Option<ReportedLoadOverview>,
}

/// The load that the server of an endpoint reports, as a moving average.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct ReportedLoadOverview {
    /// The part of the server's capacity that is used: 1 if all is. `None` if the server does not tell it.
    pub utilization: Option<f64>,
    /// The calls of all clients that the server answers in a second.
    pub calls_per_second: f64,
    /// The calls of all clients that are in flight there.
    pub in_flight: f64,
    /// Milliseconds since the last report.
    pub age_ms: u64,
}

/// The health of an endpoint, as a channel's calls have found it. [`Health`] has the same words, with details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EndpointState {
    /// The endpoint gets calls.
    Healthy,
    /// The registry says that the endpoint gets no further calls.
    Draining,
    /// The endpoint cannot be connected to.
    Unreachable,
    /// The endpoint gets no calls, since too many in a row failed.
    Ejected,
    /// The endpoint gets no calls, since it is outside of the subset of this channel's balancer.
    Outside,
}

impl EndpointState {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Healthy, Self::Draining, Self::Unreachable, Self::Ejected, Self::Outside];

    /// Returns the name, as in the JSON of the debug page: `healthy`, `draining`, `unreachable`, `ejected`, `outside`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Draining => "draining",
            Self::Unreachable => "unreachable",
            Self::Ejected => "ejected",
            Self::Outside => "outside",
        }
    }

    pub(super) fn of(status: &EndpointStatus) -> Self {
        match status.health {
            // Draining counts before anything that calls have found.
            _ if status.endpoint.is_drained() => Self::Draining,
            _ if status.is_outside => Self::Outside,
            Health::Healthy => Self::Healthy,
            Health::Unreachable { .. } => Self::Unreachable,
            Health::Ejected { .. } => Self::Ejected,
        }
    }
}

impl ChannelOverview {
    /// The number of endpoints that are listed at most.
    pub const MAX_ENDPOINTS: usize = 1000;
    /// The number of streams that are listed at most.
    pub const MAX_STREAMS: usize = 1000;

    /// Reads the state of a channel.
    pub(super) fn of(core: &ChannelCore) -> Self {
        let left = core.budget.left();
        let rest = match &core.targets {
            Targets::One(pool) => one(pool, core),
            Targets::Many(endpoints) => many(endpoints),
        };
        Self {
            retry_policy: core.default_retry_policy().to_string(),
            retries_left: left.is_finite().then_some(left),
            streams: core.streams.overview(Self::MAX_STREAMS),
            ..rest
        }
    }
}

/// Returns the parts that are specific to a channel with one endpoint.
fn one(pool: &ConnectionPool, core: &ChannelCore) -> ChannelOverview {
    let in_flight = pool.in_flight();
    let error = pool.last_error();
    let endpoint = EndpointOverview {
        address: pool.endpoint().to_string(),
        zone: None,
        weight: Endpoint::DEFAULT_WEIGHT,
        state: if error.is_some() { EndpointState::Unreachable } else { EndpointState::Healthy },
        since_ms: None,
        reason: error.as_ref().map(RpcError::to_string),
        connections: pool.count_ready(),
        in_flight,
        latency_us: None,
        calls: core.budget.calls(),
        failures: core.failures(),
        reported_load: None,
    };
    overview(source(pool.endpoint()), "none: there is one endpoint".to_owned(), in_flight, vec![endpoint])
}

fn source(address: &Address) -> String {
    format!("the address {address}")
}

/// Returns the parts that are specific to a channel with many endpoints.
fn many(endpoints: &Endpoints) -> ChannelOverview {
    let mut status = endpoints.status();
    let in_flight = status.iter().map(|one| one.in_flight).sum();
    status.sort_by_key(|one| one.is_outside);
    let listed = status.into_iter().take(ChannelOverview::MAX_ENDPOINTS).map(EndpointOverview::from);
    let rest = overview(endpoints.origin().to_owned(), endpoints.balancer(), in_flight, listed.collect());
    ChannelOverview { endpoints_age_ms: endpoints.age().map(millis), ..rest }
}

fn overview(
    source: String,
    balancer: String,
    in_flight: usize,
    endpoints: Vec<EndpointOverview>,
) -> ChannelOverview {
    ChannelOverview {
        source,
        balancer,
        retry_policy: String::new(),
        endpoints_age_ms: None,
        retries_left: None,
        in_flight,
        endpoints,
        streams: Vec::new(),
    }
}

impl From<EndpointStatus> for EndpointOverview {
    fn from(status: EndpointStatus) -> Self {
        let state = EndpointState::of(&status);
        let reported_load = ReportedLoadOverview::of(&status);
        let EndpointStatus { endpoint, health, connections, in_flight, latency, calls, failures, .. } =
            status;
        let trouble = match health {
            Health::Unreachable { since, error } | Health::Ejected { since, error }
                if state != EndpointState::Draining =>
            {
                Some((since, error))
            }
            _ => None,
        };
        let (since, error) = trouble.unzip();
        Self {
            address: endpoint.address.to_string(),
            zone: endpoint.zone.clone(),
            weight: endpoint.weight,
            state,
            since_ms: since.map(millis),
            reason: error.as_ref().map(RpcError::to_string),
            connections,
            in_flight,
            latency_us: latency_us(latency),
            calls,
            failures,
            reported_load,
        }
    }
}

impl ReportedLoadOverview {
    /// Returns the load that the server of an endpoint reports, if it does.
    #[must_use]
    pub fn of(status: &EndpointStatus) -> Option<Self> {
        let (report, age) = status.reported_load.zip(status.report_age)?;
        Some(Self {
            utilization: report.utilization,
            calls_per_second: report.calls_per_second,
            in_flight: report.in_flight,
            age_ms: millis(age),
        })
    }
}

fn latency_us(latency: Duration) -> Option<u64> {
    (!latency.is_zero()).then(|| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX))
}
