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
}

impl Figures {
    /// Reads all figures. Those of `/metrics` are `None` if the server does not answer.
    pub(crate) async fn of(server: &Server) -> io::Result<Self> {
        let pid = server.pid();
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
        Ok(Self {
            memory: memory(pid)?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            connections,
            calls,
            buffered,
            written: field(&fs::read_to_string(format!("/proc/{pid}/io"))?, "wchar:")?,
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
    fn own_memory_is_read() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        assert!(memory(pid).unwrap() > 0);
        assert!(memory(-1).is_err());
    }
}
