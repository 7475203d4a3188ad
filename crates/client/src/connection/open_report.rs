//! [`OpenReport`]: what opening one connection took, for tools that show where time goes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_runtime::time::Instant;
use farcall_transport::Address;

use super::open_progress::OpenProgress;
use crate::error::RpcError;

/// An attempt to open a connection. [`ConnectionOptions::on_open`](crate::ConnectionOptions::on_open) gets it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenReport {
    /// The address that was dialed.
    pub endpoint: Address,
    /// The phases that were reached, in order, each with its time. The last one is where an attempt failed.
    pub phases: Vec<(OpenPhase, Duration)>,
    /// The error; `None` if there is a connection.
    pub error: Option<RpcError>,
}

/// A phase of opening a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenPhase {
    /// Finding the addresses of the host's name. Left out for an IP address.
    Resolve,
    /// Reaching the server, or a proxy on the way.
    Connect,
    /// The handshake of TLS. Left out for an address that is not encrypted.
    Tls,
    /// The upgrade over HTTP or WebSocket, if the scheme has one, and farcall's handshake.
    Handshake,
}

impl fmt::Display for OpenPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "TLS",
            Self::Handshake => "handshake",
        })
    }
}

/// The function that is called with each report, if any.
#[derive(Clone, Default)]
pub(super) struct OpenObserver(Option<Arc<Observe>>);

type Observe = dyn Fn(&OpenReport) + Send + Sync;

impl OpenObserver {
    pub(super) fn new(observe: impl Fn(&OpenReport) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observe)))
    }

    /// Reports an attempt that began at `start` and has ended now.
    pub(super) fn report(
        &self,
        endpoint: &Address,
        start: Instant,
        progress: &OpenProgress,
        error: Option<&RpcError>,
    ) {
        let Some(observe) = &self.0 else { return };
        let phases = phases(endpoint, start, Instant::now(), progress);
        observe(&OpenReport { endpoint: endpoint.clone(), phases, error: error.cloned() });
    }
}

impl fmt::Debug for OpenObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "OpenObserver(..)" } else { "None" })
    }
}

/// Returns the phases from `start` to `end`.
fn phases(
    endpoint: &Address,
    start: Instant,
    end: Instant,
    progress: &OpenProgress,
) -> Vec<(OpenPhase, Duration)> {
    let is_name = endpoint.host().is_some() && endpoint.socket_addr().is_none();
    let dial = &progress.dial;
    let ends = [
        (OpenPhase::Resolve, is_name, dial.resolved_at()),
        (OpenPhase::Connect, true, dial.connected_at()),
        (OpenPhase::Tls, endpoint.scheme().is_encrypted(), dial.encrypted_at()),
        (OpenPhase::Handshake, true, Some(end)),
    ];
    let mut from = start;
    let mut phases = Vec::with_capacity(ends.len());
    for (phase, _, until) in ends.into_iter().filter(|(_, passes, _)| *passes) {
        phases.push((phase, until.unwrap_or(end).saturating_duration_since(from)));
        let Some(until) = until else { break };
        from = until;
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_end_with_the_one_that_was_reached() {
        let start = Instant::now();
        let (end, progress) = (start + Duration::from_secs(2), OpenProgress::default());
        let phases = |address: &str| phases(&Address::parse(address).unwrap(), start, end, &progress);
        assert_eq!(phases("tls@arith.test:1"), [(OpenPhase::Resolve, Duration::from_secs(2))]);
        assert_eq!(phases("tls@127.0.0.1:1"), [(OpenPhase::Connect, Duration::from_secs(2))]);
    }
}
