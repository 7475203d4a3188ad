//! [`Figures`]: the memory, descriptors, connections and calls of a server at one moment, as the kernel and its own `/metrics` tell.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::process::{Kind, Server};
use crate::peer::http::{self, Connection};

/// The time in which a server must answer `GET /metrics`.
const MAX_METRICS: Duration = Duration::from_secs(5);

/// The unit of times in `/proc`, in milliseconds: `USER_HZ` is 100 on all architectures that servers have.
const TICK_MS: u64 = 10;

/// The figures of a server at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Resident memory, in bytes.
    pub(crate) memory: u64,
    /// Open descriptors.
    pub(crate) descriptors: usize,
    /// Open connections for calls; of a registry, open watches.
    pub(crate) connections: Option<u64>,
    /// Calls under way.
    pub(crate) calls: Option<u64>,
    /// Bytes in buffers, as the server counts them.
    pub(crate) buffered: Option<u64>,
    /// Bytes written since the start, to files and sockets.
    pub(crate) written: u64,
    /// Calls, or a registry's answers, since the start.
    pub(crate) requests: Option<u64>,
    /// Processor time since the start, in milliseconds.
    pub(crate) processor_ms: u64,
}

/// The processor time of a process, and its scheduling policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessTimes {
    /// Processor time of all threads since the start, in milliseconds.
    pub(crate) processor_ms: u64,
    /// The kernel's number of the policy of the first thread.
    pub(crate) policy: u64,
}

impl ProcessTimes {
    /// Reads those of a process that runs, or has ended and was not waited for.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
            .ok_or_else(|| io::Error::other("a line of `/proc/PID/stat` that is not understood"))
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name, in parentheses, may have spaces and parentheses itself; the state follows, which is field 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { processor_ms: (field(14)? + field(15)?) * TICK_MS, policy: field(41)? })
    }
}

impl Figures {
    /// Reads all figures. Those of `/metrics` are `None` if the server does not answer.
    pub(crate) async fn of(server: &Server) -> io::Result<Self> {
        let pid = server.pid();
        // Before the connection for the metrics, of which the server keeps its end for a moment.
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        let metrics = timeout(MAX_METRICS, metrics(server.http)).await;
        let metrics = metrics.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).unwrap_or_default();
        let [connections, calls, buffered] = match server.kind {
            Kind::Demo => [
                "farcall_server_connections",
                "farcall_server_tasks_in_flight",
                "farcall_server_buffered_bytes",
            ],
            Kind::Registry | Kind::RegistryWithSnapshot => ["farcall_registry_watchers", "", ""],
        }
        .map(|name| gauge(&metrics, name));
        let requests = match server.kind {
            Kind::Demo => "farcall_server_calls_total",
            Kind::Registry | Kind::RegistryWithSnapshot => "farcall_registry_requests_total",
        };
        Ok(Self {
            memory: memory(pid)?,
            descriptors,
            connections,
            calls,
            buffered,
            written: field(&fs::read_to_string(format!("/proc/{pid}/io"))?, "wchar:")?,
            requests: total(&metrics, requests),
            processor_ms: ProcessTimes::of(pid.unsigned_abs())?.processor_ms,
        })
    }

    /// Returns `true` if the server holds no more than at `before`, with a leeway of a few descriptors: the honest
    /// client opens short connections at any time.
    pub(crate) fn is_back_to(&self, before: &Self) -> bool {
        const LEEWAY: usize = 3;
        self.descriptors <= before.descriptors + LEEWAY
            && self.connections.is_some()
            && self.connections <= before.connections.map(|count| count + LEEWAY as u64)
            && self.calls <= before.calls.map(|count| count + LEEWAY as u64)
    }
}

/// Returns a process's resident memory, in bytes.
pub(crate) fn memory(pid: i32) -> io::Result<u64> {
    Ok(field(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmRSS:")? * 1024)
}

/// Returns the number behind a name in a file of `/proc`.
fn field(text: &str, name: &str) -> io::Result<u64> {
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    value.ok_or_else(|| io::Error::other(format!("no `{name}`: the process has ended")))
}

/// Returns a gauge without labels.
fn gauge(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Returns the sum of a counter over all its labels, or `None` in a text without any counter.
fn total(metrics: &str, name: &str) -> Option<u64> {
    if metrics.is_empty() {
        return None;
    }
    let samples = metrics
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    Some(samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
}

/// Returns the text of `/metrics`, over a new connection.
async fn metrics(address: SocketAddr) -> io::Result<String> {
    let mut connection = Connection::open(address).await?;
    let response = connection.ask(&http::get(address, "/metrics")).await?;
    String::from_utf8(response.body).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauge_is_found_by_its_whole_name() {
        let text = "# TYPE a gauge\na_more 1\na{b=\"c\"} 2\na 3\n";
        assert_eq!(gauge(text, "a"), Some(3));
        assert_eq!(gauge(text, "b"), None);
    }

    #[test]
    fn counter_is_summed_over_its_labels() {
        let text = "# TYPE a counter\na_more 1\na{b=\"c d\"} 2\na{b=\"e\"} 3\n";
        assert_eq!(total(text, "a"), Some(5));
        assert_eq!(total(text, "b"), Some(0), "none was counted yet");
        assert_eq!(total("", "a"), None);
    }

    #[test]
    fn times_are_found_behind_any_name() {
        let zeros = |count: usize| "0 ".repeat(count);
        let stat = format!("7 (a) b (c) S {}12 34 {}5 0 0\n", zeros(10), zeros(25));
        assert_eq!(ProcessTimes::parse(&stat), Some(ProcessTimes { processor_ms: 460, policy: 5 }));
        assert_eq!(ProcessTimes::parse("7 (a) S 1"), None);
    }

    #[test]
    fn own_memory_is_read() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        assert!(memory(pid).unwrap() > 0);
        assert!(memory(-1).is_err());
    }
}
