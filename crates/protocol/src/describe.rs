//! What the reserved methods answer: services and their methods, health, statistics.

use serde::{Deserialize, Serialize};

/// `farcall.services`: what a server offers, a list of [`ServiceInfo`].
pub const SERVICES: &str = "farcall.services";
/// `farcall.health`: whether a server, or one service of it, takes calls: a [`Health`].
pub const HEALTH: &str = "farcall.health";
/// `farcall.stats`: figures of each method, a list of [`MethodStats`].
pub const STATS: &str = "farcall.stats";
/// The service of the reserved methods.
pub const RESERVED_SERVICE: &str = "farcall";

/// A service, as `farcall.services` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// The name, such as `Arith`.
    pub name: String,
    /// The documentation; empty where there is none.
    #[serde(default)]
    pub doc: String,
    /// The methods, in the order of their declaration.
    #[serde(default)]
    pub methods: Vec<MethodInfo>,
}

/// A method, as `farcall.services` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodInfo {
    /// The name without that of its service, such as `multiply`.
    pub name: String,
    /// The documentation; empty where there is none.
    #[serde(default)]
    pub doc: String,
    /// The parameters in order.
    #[serde(default)]
    pub params: Vec<ParamInfo>,
    /// The type of its result, as it was written.
    #[serde(default)]
    pub returns: String,
    /// `true` if it may be called twice with the effect of once.
    #[serde(default)]
    pub idempotent: bool,
    /// `true` if it answers with a stream. No method does yet.
    #[serde(default)]
    pub streaming: bool,
}

/// A parameter of a method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamInfo {
    /// The name, which is its key in the map of arguments.
    pub name: String,
    /// The type, as it was written.
    #[serde(rename = "type")]
    pub type_name: String,
}

/// The argument of `farcall.health`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRequest {
    /// The service that is asked about; none for the whole server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// The answer of `farcall.health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The status: whether new calls are accepted.
    pub status: HealthStatus,
}

/// The state of a server or service for callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// They are.
    Serving,
    /// No new ones: what is under way is finished.
    Draining,
}

/// Figures of one method since the server's start, as `farcall.stats` gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodStats {
    /// The full name, such as `Arith.multiply`.
    pub name: String,
    /// Calls that have ended.
    pub calls: u64,
    /// Those of them that ended in an error.
    pub errors: u64,
    /// Calls under way.
    pub in_flight: u64,
    /// The median latency in microseconds, from the request's arrival to its answer.
    pub p50_us: u64,
    /// The latency that 90% of the calls stay within, in microseconds.
    pub p90_us: u64,
    /// The latency that 99% of the calls stay within, in microseconds.
    pub p99_us: u64,
    /// The longest latency in microseconds.
    pub max_us: u64,
}
