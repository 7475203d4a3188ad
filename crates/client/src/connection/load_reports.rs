//! [`LoadReports`]: where all connections to one endpoint record the load that its server reports.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use farcall_discovery::Load;

use super::handle::Handle;
use super::shared::Shared;

/// The load of an endpoint, and the connections that report it.
#[derive(Debug)]
pub(super) struct LoadReports {
    load: Arc<Load>,
    /// Those that were open when the last one was added: at most one for each slot of the pool. Never locked across an await.
    connections: Mutex<Vec<Weak<Shared>>>,
}

impl LoadReports {
    pub(super) fn new(load: Arc<Load>) -> Self {
        Self { load, connections: Mutex::default() }
    }

    /// Records the load that is reported over a further connection. Discards earlier reports if the server may be another process: if no
    /// other connection is open, or the store of keys, which each process names at random, has another name.
    pub(super) fn follow(&self, connection: &Handle) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = connection.state();
        let is_of_same = |other: &Arc<Shared>| {
            other.is_open() && other.negotiated.once_store == connection.negotiated.once_store
        };
        connections.retain(|other| other.upgrade().is_some_and(|other| is_of_same(&other)));
        if connections.is_empty() {
            self.load.forget_reports();
        }
        connections.push(Arc::downgrade(connection));
        connection.report_load_to(Arc::clone(&self.load));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farcall_protocol::{Codec, LoadReport, Negotiated};
    use farcall_runtime::time::Instant;
    use farcall_transport::Address;

    use super::super::options::ConnectionOptions;
    use super::*;

    fn connection(store: Option<&str>) -> Handle {
        let mut negotiated = Negotiated::new(Codec::default());
        negotiated.once_store = store.map(Arc::from);
        let address = Address::parse("tcp@server.example:1").unwrap();
        Handle::new(Arc::new(Shared::new(negotiated, address, &ConnectionOptions::default())))
    }

    fn reports() -> (LoadReports, impl Fn() -> bool) {
        let load = Arc::<Load>::default();
        let reports = LoadReports::new(Arc::clone(&load));
        let is_known = move || load.report_at(Instant::now(), Duration::ZERO, Duration::MAX).is_some();
        (reports, is_known)
    }

    #[test]
    fn further_connections_to_one_process_forget_nothing() {
        let (reports, is_known) = reports();
        let first = connection(None);
        reports.follow(&first);
        reports.load.record_report(LoadReport::new(1.0, 1.0));
        let second = connection(None);
        reports.follow(&second);
        assert!(is_known());
        drop(first);
        let third = connection(None);
        reports.follow(&third);
        assert!(is_known(), "the second one is open");
        drop((second, third));
        reports.follow(&connection(None));
        assert!(!is_known(), "none was open: the process may be another one");
    }

    #[test]
    fn connection_to_another_process_forgets_the_reports() {
        let (reports, is_known) = reports();
        let one = [connection(Some("a")), connection(Some("a"))];
        one.iter().for_each(|connection| reports.follow(connection));
        reports.load.record_report(LoadReport::new(1.0, 1.0));
        reports.follow(&connection(Some("a")));
        assert!(is_known());
        reports.follow(&connection(Some("b")));
        assert!(!is_known());
    }
}
