//! [`Overview`]: a snapshot of a server, for a page or a program to show.

use std::collections::BTreeMap;

use farcall_protocol::describe::{HealthStatus, ServiceInfo};
use serde::Serialize;

use super::streams::{StreamMetrics, StreamOverview};
use crate::overload::control::OverloadOverview;

/// A snapshot of what a server is doing, and has done lately. It serializes to the JSON of the debug
/// page; times are in the unit that a field's name ends with.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Overview {
    /// The health: `draining` once it stops.
    pub health: HealthStatus,
    /// The time since the server was built, in seconds.
    pub uptime_s: f64,
    /// The addresses that it listens on.
    pub addresses: Vec<String>,
    /// The registrations, with the state of each.
    pub registrations: Vec<RegistrationOverview>,
    /// The services, with documentation and types.
    pub services: Vec<ServiceInfo>,
    /// Statistics of each method, sorted by name.
    pub methods: Vec<MethodOverview>,
    /// Calls in flight that have tasks, the oldest first; at most [`Overview::MAX_CALLS`].
    pub calls: Vec<CallOverview>,
    /// Open streams, the oldest first; at most [`Overview::MAX_STREAMS`].
    pub streams: Vec<StreamOverview>,
    /// The counts of all streams.
    pub stream_metrics: StreamMetrics,
    /// Open connections, the busiest first; at most [`Overview::MAX_CONNECTIONS`].
    pub connections: Vec<ConnectionOverview>,
    /// Slow calls, the latest first.
    pub slow: Vec<EndedCall>,
    /// Failed calls, the latest first.
    pub failed: Vec<EndedCall>,
    /// The limits in force, with the current usage of each.
    pub limits: Vec<LimitOverview>,
    /// The adaptive limit; `None` without [`Limits::adaptive`](crate::Limits::adaptive).
    pub overload: Option<OverloadOverview>,
    /// Connections that were closed since the server was built because they held memory for peers
    /// that do not read or do not complete their messages, while others had none.
    pub shed_connections: u64,
}

impl Overview {
    /// The maximum number of calls that are listed.
    pub const MAX_CALLS: usize = 200;
    /// The maximum number of streams that are listed.
    pub const MAX_STREAMS: usize = 200;
    /// The maximum number of connections that are listed.
    pub const MAX_CONNECTIONS: usize = 200;
}

/// A registration and its state.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RegistrationOverview {
    /// The registered service.
    pub service: String,
    /// The registry, such as `http://registry:7100`.
    pub place: String,
    /// The registered address, which others dial.
    pub address: String,
    /// The state, as a sentence.
    pub state: String,
}

/// Statistics of a method.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MethodOverview {
    /// The full name, such as `Arith.multiply`.
    pub name: String,
    /// Calls in flight.
    pub in_flight: u64,
    /// Calls since the start.
    pub total: WindowStats,
    /// Calls of the last minute.
    pub last_minute: WindowStats,
    /// The last ten minutes in steps of [`MethodOverview::STEP_S`], the oldest first; fewer steps if the
    /// server is younger.
    pub history: Vec<HistoryBucket>,
}

impl MethodOverview {
    /// The length of a step of the history, in seconds.
    pub const STEP_S: u64 = 5;
    /// The number of steps that are kept: ten minutes.
    pub const STEPS: usize = 120;
}

/// The calls of a method that ended within a time span.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct WindowStats {
    /// The number of calls that ended.
    pub calls: u64,
    /// The number of calls that ended each second, on average.
    pub calls_per_s: f64,
    /// The number of calls that failed, by the name of the error's code.
    pub errors: BTreeMap<&'static str, u64>,
    /// The median latency in microseconds, from the request's arrival to its response; zero without calls.
    pub p50_us: u64,
    /// The latency that 90% of the calls stay within, in microseconds.
    pub p90_us: u64,
    /// The latency that 99% of the calls stay within, in microseconds.
    pub p99_us: u64,
    /// The longest latency in microseconds; at most 3% too high, and exact over the server's life.
    pub max_us: u64,
}

/// One step of a method's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HistoryBucket {
    /// Calls that ended in it.
    pub calls: u64,
    /// The number of them that failed.
    pub errors: u64,
    /// The median latency in microseconds; zero without calls.
    pub p50_us: u64,
    /// The latency that 99% of them stay within, in microseconds.
    pub p99_us: u64,
}

/// A call in flight.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CallOverview {
    /// The full name of its method.
    pub method: String,
    /// The time since its request arrived, in milliseconds.
    pub age_ms: u64,
    /// The time until its deadline, in milliseconds; zero past it, `None` without a deadline.
    pub remaining_ms: Option<u64>,
    /// The address of the caller, such as `tcp@127.0.0.1:50412`.
    pub peer: String,
    /// The name of the caller's identity; `None` if the server asks for none.
    pub caller: Option<String>,
    /// The connection that it came over; `None` if it came over none.
    pub connection: Option<u64>,
}

/// An open connection.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ConnectionOverview {
    /// The number of the connection, unique within the server.
    pub id: u64,
    /// The address of the peer, such as `tcp@127.0.0.1:50412`.
    pub peer: String,
    /// The scheme that it was opened by: `tcp`, `unix`, `tls`, `http`, `ws`; `memory` if unknown.
    pub scheme: &'static str,
    /// The codec of its messages, such as `application/msgpack`; `None` during its handshake.
    pub codec: Option<String>,
    /// The name of the peer's identity; `None` if the server asks for none.
    pub caller: Option<String>,
    /// The time since it was accepted, in milliseconds.
    pub age_ms: u64,
    /// Calls in flight that have tasks.
    pub in_flight: usize,
    /// Bytes that it holds of the server's buffers: incomplete messages, calls in flight, responses.
    pub buffered_bytes: usize,
    /// The number of requests that came over it.
    pub calls: u64,
    /// Bytes that were read from it after its handshake.
    pub received_bytes: u64,
    /// Bytes that were written to it after its handshake.
    pub sent_bytes: u64,
}

/// A call that has ended.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EndedCall {
    /// The full name of its method, truncated to 200 bytes.
    pub method: String,
    /// The time of its end, in milliseconds since the start of 1970.
    pub ended_unix_ms: u64,
    /// The time from its request's arrival to its response, in microseconds.
    pub took_us: u64,
    /// The name of the error's code; `None` if it succeeded.
    pub code: Option<&'static str>,
    /// The message of the error, truncated to 200 bytes.
    pub message: Option<String>,
    /// The address of the caller.
    pub peer: String,
    /// The name of the caller's identity; `None` if the server asks for none.
    pub caller: Option<String>,
}

/// A limit and its current usage.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LimitOverview {
    /// The name of the setting, such as `max_connections`.
    pub name: &'static str,
    /// The unit: `connections`, `calls`, `bytes`, `ms`.
    pub unit: &'static str,
    /// The current usage; `None` if it is not counted.
    pub used: Option<u64>,
    /// The limit; `None` if there is none.
    pub limit: Option<u64>,
    /// The number of times that it has refused something since the server was built; `None` if that is
    /// not counted.
    pub refused: Option<u64>,
}
