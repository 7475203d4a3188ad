//! [`ChannelOverview`]: what a channel is doing at one moment, for a page or a program to show.

use std::time::Duration;

use farcall_discovery::Endpoint;
use farcall_transport::Address;
use serde::Serialize;

use crate::channel::{Channel, Inner, Targets};
use crate::connection::pool::Links;
use crate::endpoints::{EndpointStatus, Endpoints, Health};
use crate::error::RpcError;

/// What a channel is doing at one moment. It serializes to what a debug page reads; times are in the
/// unit that a field's name ends with.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ChannelOverview {
    /// Where its endpoints come from: `the address tcp@10.0.0.3:7001`, `Arith at http://registry:7100`.
    pub source: String,
    /// Who chooses among them: `least loaded`.
    pub balancer: String,
    /// What is done about a call that failed: `fail over, 3 tries`.
    pub retry_policy: String,
    /// Since the list of endpoints was last known to be true, in milliseconds; none where there is no
    /// list, or none yet.
    pub endpoints_age_ms: Option<u64>,
    /// Further tries that the retry budget allows at this moment; none where there is no limit.
    pub retries_left: Option<f64>,
    /// Calls under way, to all endpoints.
    pub in_flight: usize,
    /// The endpoints, drained ones included, in the order of addresses; at most
    /// [`ChannelOverview::MOST_ENDPOINTS`].
    pub endpoints: Vec<EndpointOverview>,
}

impl ChannelOverview {
    /// The most endpoints that are listed.
    pub const MOST_ENDPOINTS: usize = 1000;
}

/// An endpoint of a channel.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EndpointOverview {
    /// Where it is dialed, such as `tcp@10.0.0.3:7001`.
    pub address: String,
    /// Where it stands, if that is known.
    pub zone: Option<String>,
    /// Its share of the calls, against the weights of the others.
    pub weight: u16,
    /// Whether it gets calls.
    pub state: EndpointState,
    /// Since it is unreachable or ejected, in milliseconds; none where it is neither, or where that
    /// is not known, as for a channel's only endpoint.
    pub since_ms: Option<u64>,
    /// Why it is unreachable or ejected, as it was said last.
    pub why: Option<String>,
    /// Connections that take calls.
    pub connections: usize,
    /// Calls under way there.
    pub in_flight: usize,
    /// The moving average of latency in microseconds; none where it is not known, as for a channel's
    /// only endpoint.
    pub latency_us: Option<u64>,
    /// Calls that went there since it was found, each try counted; those of the channel, each counted
    /// once, where it is the only endpoint.
    pub calls: u64,
    /// Tries there that ended with an error, the method's own included.
    pub failures: u64,
}

/// How an endpoint is, as a channel's calls have found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EndpointState {
    /// It gets calls.
    Healthy,
    /// It is to get no further calls, by what its registry says.
    Drained,
    /// It cannot be connected to.
    Unreachable,
    /// It was left out since it kept failing.
    Ejected,
}

impl Channel {
    /// What the channel is doing at this moment. It goes through all endpoints, and costs calls nothing.
    #[must_use]
    pub fn overview(&self) -> ChannelOverview {
        let inner = &*self.inner;
        let left = inner.budget.left();
        let rest = match &inner.targets {
            Targets::One(links) => one(links, inner),
            Targets::Many(endpoints) => many(endpoints),
        };
        ChannelOverview {
            retry_policy: inner.retry_policy().to_string(),
            retries_left: left.is_finite().then_some(left),
            ..rest
        }
    }
}

/// What is particular to a channel with one endpoint.
fn one(links: &Links, inner: &Inner) -> ChannelOverview {
    let in_flight = links.in_flight();
    let trouble = links.trouble();
    let endpoint = EndpointOverview {
        address: links.endpoint().to_string(),
        zone: None,
        weight: Endpoint::DEFAULT_WEIGHT,
        state: if trouble.is_some() { EndpointState::Unreachable } else { EndpointState::Healthy },
        since_ms: None,
        why: trouble.as_ref().map(RpcError::to_string),
        connections: links.count_ready(),
        in_flight,
        latency_us: None,
        calls: inner.budget.calls(),
        failures: inner.failures(),
    };
    overview(source(links.endpoint()), "none: there is one endpoint".to_owned(), in_flight, vec![endpoint])
}

fn source(address: &Address) -> String {
    format!("the address {address}")
}

/// What is particular to a channel with many endpoints.
fn many(endpoints: &Endpoints) -> ChannelOverview {
    let status = endpoints.status();
    let in_flight = status.iter().map(|one| one.in_flight).sum();
    let listed = status.into_iter().take(ChannelOverview::MOST_ENDPOINTS).map(EndpointOverview::from);
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
    }
}

impl From<EndpointStatus> for EndpointOverview {
    fn from(status: EndpointStatus) -> Self {
        let EndpointStatus { endpoint, health, connections, in_flight, latency, calls, failures } = status;
        let (state, trouble) = match health {
            // That it is to get no calls is its own word, whatever calls have found of it.
            _ if endpoint.is_drained() => (EndpointState::Drained, None),
            Health::Healthy => (EndpointState::Healthy, None),
            Health::Unreachable { since, why } => (EndpointState::Unreachable, Some((since, why))),
            Health::Ejected { since, why } => (EndpointState::Ejected, Some((since, why))),
        };
        let (since, why) = trouble.unzip();
        Self {
            address: endpoint.address.to_string(),
            zone: endpoint.zone.clone(),
            weight: endpoint.weight,
            state,
            since_ms: since.map(millis),
            why: why.as_ref().map(RpcError::to_string),
            connections,
            in_flight,
            latency_us: (!latency.is_zero()).then(|| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
            calls,
            failures,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
