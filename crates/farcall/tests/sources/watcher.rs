//! [`Watcher`]: a discovery that runs, and what it has found.

use farcall_discovery::{Discovery, Endpoint, EndpointList, Instance, Registrar, Subscription, publisher};
use farcall_test_support::wait::PATIENCE;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::place::{Place, Source, TTL};

/// A discovery that runs until this is dropped.
pub(crate) struct Watcher {
    seen: Subscription,
    running: AbortHandle,
}

impl Watcher {
    pub(crate) fn of(source: &impl Source, service: &str) -> Self {
        Self::with(source.discovery(service))
    }

    pub(crate) fn with(discovery: impl Discovery) -> Self {
        let (publisher, seen) = publisher();
        let running = tokio::spawn(discovery.run(publisher)).abort_handle();
        Self { seen, running }
    }

    pub(crate) fn last(&self) -> EndpointList {
        self.seen.borrow().clone()
    }

    /// The ports of what was found, which tests tell instances apart by.
    pub(crate) fn ports(&self) -> Vec<u16> {
        ports(&self.seen.borrow())
    }

    pub(crate) async fn until(&mut self, what: &str, is: impl FnMut(&EndpointList) -> bool) -> EndpointList {
        let waited = timeout(PATIENCE, self.seen.wait_for(is)).await;
        let waited = waited.map(|seen| seen.expect("the discovery runs on").clone());
        waited.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}; it is {:?}", self.last()))
    }

    /// Waits for exactly these, of a place that does not fail.
    pub(crate) async fn until_ports(&mut self, expected: &[u16]) {
        let is = |seen: &EndpointList| {
            seen.confirmed.is_some() && seen.failing.is_none() && ports(seen) == expected
        };
        self.until(&format!("ports {expected:?} without failure"), is).await;
    }

    /// Registers an instance that is not renewed, until it was seen: on a busy machine it may expire before.
    pub(crate) async fn until_registered(&mut self, place: &impl Place, instance: &Instance) {
        let port = instance.addr.port().expect("it has a port");
        let begun = Instant::now();
        loop {
            place.registrar().register(instance).await.unwrap();
            let is_seen = self.seen.wait_for(|seen| seen.failing.is_none() && ports(seen).contains(&port));
            if timeout(TTL, is_seen).await.is_ok() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "never seen: {port}; it is {:?}", self.last());
        }
    }

    pub(crate) async fn until_endpoint(&mut self, what: &str, is: impl Fn(&Endpoint) -> bool) {
        self.until(what, |seen| seen.endpoints.iter().any(|endpoint| is(endpoint))).await;
    }
}

/// Leaves no task behind.
impl Drop for Watcher {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn ports(seen: &EndpointList) -> Vec<u16> {
    seen.endpoints.iter().filter_map(|endpoint| endpoint.address.port()).collect()
}

/// An instance at this port.
pub(crate) fn instance(service: &str, port: u16) -> Instance {
    let address = format!("tcp@10.0.0.1:{port}");
    Instance::new(service, address.parse().expect("it is an address"))
}
