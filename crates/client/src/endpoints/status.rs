//! What a channel tells of its endpoints.

use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::Endpoint;

use crate::error::RpcError;

/// An endpoint of a channel, and what the channel's calls have found of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// As it was found.
    pub endpoint: Arc<Endpoint>,
    /// Whether it gets calls.
    pub health: Health,
    /// Connections that take calls.
    pub connections: usize,
    /// Calls under way there.
    pub in_flight: usize,
    /// The moving average of latency, which jumps to peaks and falls slowly; zero where unknown.
    pub latency: Duration,
    /// Calls that went there since it was found, each try counted.
    pub calls: u64,
    /// Those of them that ended with an error, the method's own included.
    pub failures: u64,
}

/// How an endpoint is, by what a channel's calls have found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// It gets calls, unless it is drained.
    Healthy,
    /// It cannot be connected to, and is dialed again and again.
    Unreachable {
        /// For how long.
        since: Duration,
        /// What was said last.
        why: RpcError,
    },
    /// It was left out since it kept failing, until a probe succeeds.
    Ejected {
        /// For how long.
        since: Duration,
        /// What was said last.
        why: RpcError,
    },
}
