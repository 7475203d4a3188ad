//! [`ChannelMetrics`]: the figures of a channel for a monitoring system.

use std::time::Duration;

use farcall_protocol::Code;

use super::overview::{EndpointState, ReportedLoadOverview};
use crate::call::channel_core::{ChannelCore, Targets};
use crate::call::stream::registry::StreamMetrics;
use crate::totals::{Totals, bucket_end};

/// The figures of a channel since it was built, for a monitoring system. All counters only grow, also while endpoints
/// come and go. `farcall-http` shows them at `/metrics`, with the names in OBSERVING.md.
///
/// ```
/// use farcall_client::Channel;
///
/// let channel = Channel::to("tcp@10.0.0.3:7001")?;
/// let metrics = channel.metrics();
/// assert_eq!((metrics.calls, metrics.attempts, metrics.in_flight), (0, 0, 0));
/// # Ok::<(), farcall_client::BuildError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChannelMetrics {
    /// Calls that were started. A broadcast is one call.
    pub calls: u64,
    /// Attempts of these calls: the first of each, retries, hedged requests, and each endpoint of a broadcast.
    pub attempts: u64,
    /// Attempts after a call's first: retries and hedged requests.
    pub retries: u64,
    /// Attempts that ended with an error, the method's own included, by its code; codes that occurred.
    pub errors: Vec<(Code, u64)>,
    /// Endpoints that were ejected because they kept failing.
    pub ejections: u64,
    /// Calls in flight at this moment.
    pub in_flight: usize,
    /// Connections that take calls at this moment.
    pub connections: usize,
    /// The number of endpoints in each state at this moment.
    pub endpoints: Vec<(EndpointState, usize)>,
    /// The load that servers report, by the addresses of endpoints and in their order: of those that report any, at most
    /// [`ChannelMetrics::MAX_REPORTED_LOADS`].
    pub reported_loads: Vec<(String, ReportedLoadOverview)>,
    /// The time since the list of endpoints was last known to be true; `None` if there is no list, or none yet.
    pub endpoints_age: Option<Duration>,
    /// Retries that the retry budget allows at this moment; infinite if it has no limit.
    pub retries_left: f64,
    /// The time from sending an attempt to its answer, or to its deadline. For a stream, to its first item.
    pub latency: LatencyHistogram,
    /// The streaming calls, which count as calls, too.
    pub streams: StreamMetrics,
}

/// The latencies of attempts, in buckets that double in width. Empty for a channel with one address, unless
/// [`Channel::measure_latency`](crate::Channel::measure_latency) was called.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LatencyHistogram {
    /// The buckets: the number of attempts, and the upper end of their latencies, which is `None` for the last one. The
    /// lower end is the upper end of the bucket before.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// The sum of all latencies.
    pub total: Duration,
}

impl ChannelMetrics {
    /// The number of endpoints whose reported loads are listed at most.
    pub const MAX_REPORTED_LOADS: usize = 200;

    /// Reads the figures of a channel, in time linear in the number of its endpoints.
    pub(super) fn of(core: &ChannelCore) -> Self {
        let totals = core.totals();
        let (calls, retries) = (core.budget.calls(), totals.retries());
        let mut reported_loads = Vec::new();
        let (in_flight, connections, endpoints, endpoints_age) = match &core.targets {
            Targets::One(pool) => {
                let state = match pool.last_error() {
                    Some(_) => EndpointState::Unreachable,
                    None => EndpointState::Healthy,
                };
                (pool.in_flight(), pool.count_ready(), count_states([state]), None)
            }
            Targets::Many(endpoints) => {
                let status = endpoints.status();
                let in_flight = status.iter().map(|one| one.in_flight).sum();
                let connections = status.iter().map(|one| one.connections).sum();
                let states = count_states(status.iter().map(EndpointState::of));
                let loads = status.iter().filter_map(|one| {
                    Some((one.endpoint.address.to_string(), ReportedLoadOverview::of(one)?))
                });
                reported_loads.extend(loads.take(Self::MAX_REPORTED_LOADS));
                (in_flight, connections, states, endpoints.age())
            }
        };
        Self {
            calls,
            attempts: calls + retries + totals.further_endpoints(),
            retries,
            errors: totals.errors(),
            ejections: totals.ejections(),
            in_flight,
            connections,
            endpoints,
            reported_loads,
            endpoints_age,
            retries_left: core.budget.left(),
            latency: LatencyHistogram::of(totals),
            streams: core.streams.metrics(),
        }
    }
}

/// Counts all states, also those that no endpoint has.
fn count_states(states: impl IntoIterator<Item = EndpointState>) -> Vec<(EndpointState, usize)> {
    let mut counts = EndpointState::ALL.map(|state| (state, 0));
    for state in states {
        counts.iter_mut().filter(|(counted, _)| *counted == state).for_each(|(_, count)| *count += 1);
    }
    counts.to_vec()
}

impl LatencyHistogram {
    fn of(totals: &Totals) -> Self {
        let (counts, total) = totals.latency();
        let buckets = counts.into_iter().enumerate().map(|(index, count)| (bucket_end(index), count));
        Self { buckets: buckets.collect(), total }
    }

    /// Returns the number of attempts in all buckets.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}
