//! [`Overview`]: what a server is doing at one moment, for a page or a program to show.

use std::collections::BTreeMap;

use farcall_protocol::describe::{HealthStatus, ServiceInfo};
use serde::Serialize;

/// What a server is doing at one moment, and has done lately. It serializes to what the debug page
/// reads; times are in the unit that a field's name ends with.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Overview {
    /// Whether it takes calls.
    pub health: HealthStatus,
    /// Since the server was built, in seconds.
    pub uptime_s: f64,
    /// The addresses that it listens on.
    pub addresses: Vec<String>,
    /// Where it is registered, and how that goes.
    pub registrations: Vec<RegistrationOverview>,
    /// What it offers, with documentation and types.
    pub services: Vec<ServiceInfo>,
    /// How each method is used, sorted by name.
    pub methods: Vec<MethodOverview>,
    /// Calls under way in tasks of their own, the oldest first; at most [`Overview::MOST_CALLS`].
    pub calls: Vec<CallOverview>,
    /// Open connections, the busiest first; at most [`Overview::MOST_CONNECTIONS`].
    pub connections: Vec<ConnectionOverview>,
    /// Calls that took long, the latest first.
    pub slow: Vec<EndedCall>,
    /// Calls that failed, the latest first.
    pub failed: Vec<EndedCall>,
    /// The limits in force, and how near they are.
    pub limits: Vec<LimitOverview>,
}

impl Overview {
    /// The most calls that are listed.
    pub const MOST_CALLS: usize = 200;
    /// The most connections that are listed.
    pub const MOST_CONNECTIONS: usize = 200;
}

/// A registration, and how it goes.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RegistrationOverview {
    /// The service that is registered.
    pub service: String,
    /// Where: `http://registry:7100`.
    pub place: String,
    /// What is registered: the address that others dial.
    pub address: String,
    /// How that goes, as a sentence.
    pub state: String,
}

/// How a method is used.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MethodOverview {
    /// The full name, such as `Arith.multiply`.
    pub name: String,
    /// Calls under way.
    pub in_flight: u64,
    /// Since the start.
    pub total: WindowStats,
    /// Over the last minute.
    pub last_minute: WindowStats,
    /// The last minutes in steps of [`MethodOverview::STEP_S`], the oldest first; shorter where the server is
    /// younger.
    pub history: Vec<HistoryBucket>,
}

impl MethodOverview {
    /// The length of a step of the history, in seconds.
    pub const STEP_S: u64 = 5;
    /// The most steps that are kept: ten minutes.
    pub const STEPS: usize = 120;
}

/// The calls of a method that ended in some time.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct WindowStats {
    /// How many ended.
    pub calls: u64,
    /// How many ended each second, on average.
    pub calls_per_s: f64,
    /// How many of them failed, by the name of the error's code.
    pub errors: BTreeMap<&'static str, u64>,
    /// The median latency in microseconds, from the request's arrival to its answer; zero without calls.
    pub p50_us: u64,
    /// What 90% of the calls stay within, in microseconds.
    pub p90_us: u64,
    /// What 99% of the calls stay within, in microseconds.
    pub p99_us: u64,
    /// The longest latency in microseconds; over less than the server's life at most 3% too high.
    pub max_us: u64,
}

/// One step of a method's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HistoryBucket {
    /// Calls that ended in it.
    pub calls: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Their median latency in microseconds; zero without calls.
    pub p50_us: u64,
    /// What 99% of them stay within, in microseconds.
    pub p99_us: u64,
}

/// A call under way.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CallOverview {
    /// The full name of its method.
    pub method: String,
    /// Since its request arrived, in milliseconds.
    pub age_ms: u64,
    /// Until its deadline, in milliseconds; zero past it, none where it has none.
    pub remaining_ms: Option<u64>,
    /// Who called, such as `tcp@127.0.0.1:50412`.
    pub peer: String,
    /// Who called, by its credential; none where nobody asked for one.
    pub caller: Option<String>,
    /// The connection that it came over; none for one that came by another way.
    pub connection: Option<u64>,
}

/// An open connection.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ConnectionOverview {
    /// Its number, which no other has had.
    pub id: u64,
    /// Who is on the other side, such as `tcp@127.0.0.1:50412`.
    pub peer: String,
    /// How it was opened: `tcp`, `unix`, `tls`, `http`, `ws`; `memory` where whoever brought it did not say.
    pub scheme: &'static str,
    /// How its messages are encoded, such as `application/msgpack`; none while its handshake is not done.
    pub codec: Option<String>,
    /// Who is on the other side, by its credential.
    pub caller: Option<String>,
    /// Since it was accepted, in milliseconds.
    pub age_ms: u64,
    /// Calls under way in tasks of their own.
    pub in_flight: usize,
    /// How many calls it has made.
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
    /// The full name of its method, cut at 200 bytes.
    pub method: String,
    /// When it ended, in milliseconds since the beginning of 1970.
    pub ended_unix_ms: u64,
    /// From its request's arrival to its answer, in microseconds.
    pub took_us: u64,
    /// The name of the error's code; none where it succeeded.
    pub code: Option<&'static str>,
    /// What the error said, cut at 200 bytes.
    pub message: Option<String>,
    /// Who called.
    pub peer: String,
    /// Who called, by its credential.
    pub caller: Option<String>,
}

/// A limit, and how near it is.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LimitOverview {
    /// The name of the setting, such as `max_connections`.
    pub name: &'static str,
    /// What it bounds: `connections`, `calls`, `bytes`, `ms`.
    pub unit: &'static str,
    /// What is used at this moment; none where that is not counted.
    pub used: Option<u64>,
    /// The limit; none where there is none.
    pub limit: Option<u64>,
}
