//! [`Discovery`]: where lists of endpoints come from, and how they reach a channel.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::endpoint::Endpoint;

/// Finds the endpoints of a service, and publishes changes.
///
/// ```
/// use farcall_discovery::{Discovery, Endpoint, Publisher};
/// use farcall_transport::Address;
///
/// /// Asks a configuration service that the readers of this line have.
/// struct Config;
///
/// impl Discovery for Config {
///     fn describe(&self) -> String {
///         "the configuration service".to_owned()
///     }
///
///     async fn run(self, publisher: Publisher) {
///         let address = Address::parse("tcp@10.0.0.3:7001").expect("it is well formed");
///         publisher.publish(vec![Endpoint::new(address)]);
///     }
/// }
/// ```
pub trait Discovery: Send + 'static {
    /// Returns the source of the list, for display: `Arith at http://registry:7100`.
    fn describe(&self) -> String;

    /// Publishes the list, and each further one, until it is dropped. The last list stays in force
    /// when this ends, and while it fails.
    fn run(self, publisher: Publisher) -> impl Future<Output = ()> + Send + 'static
    where
        Self: Sized;

    /// Returns another source with the same settings; `None` if there is no such thing. Default: `None`.
    ///
    /// A channel outlives the runtime of its first call, as one in a `static` does. The next runtime then runs the other
    /// source, and so does a channel whose source has panicked. Without one, the future of [`Discovery::run`] is
    /// polled on in the next runtime, which is right only if it uses no timers, sockets or tasks of the first.
    fn try_clone(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
}

/// A service's endpoints as they are known at one moment. Cloning is cheap.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EndpointList {
    /// The last list, in the order of addresses. Empty where there was none yet.
    pub endpoints: Arc<[Arc<Endpoint>]>,
    /// When the list was last known to be true; none before there was one.
    pub confirmed: Option<Instant>,
    /// The failure that has kept it from being renewed since; `None` if there is none.
    pub failing: Option<SourceError>,
}

/// The failure of a source, or of a registration, that lasts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
#[non_exhaustive]
pub struct SourceError {
    /// When it began.
    pub since: Instant,
    /// The last reason, a sentence.
    pub reason: Arc<str>,
}

impl SourceError {
    /// Creates one that begins now.
    pub fn new(reason: impl Into<Arc<str>>) -> Self {
        Self { since: Instant::now(), reason: reason.into() }
    }
}

/// The sending end, through which a [`Discovery`] publishes lists.
#[derive(Debug)]
pub struct Publisher {
    state: watch::Sender<EndpointList>,
}

/// The receiving end of published lists.
pub type Subscription = watch::Receiver<EndpointList>;

/// Creates both ends of a channel for lists.
#[must_use]
pub fn publisher() -> (Publisher, Subscription) {
    publisher_from(EndpointList::default())
}

/// Creates both ends of a channel for lists in which `last` is in force until the first one is published.
#[must_use]
pub fn publisher_from(last: EndpointList) -> (Publisher, Subscription) {
    let (state, subscription) = watch::channel(last);
    (Publisher { state }, subscription)
}

impl Publisher {
    /// Puts this list in place of the last one. Of endpoints with the same address the first
    /// counts. An empty list is a list, too: the service has no endpoint.
    pub fn publish(&self, mut endpoints: Vec<Endpoint>) {
        // Stable, so that the first of several stays first.
        endpoints.sort_by(|a, b| a.address.cmp(&b.address));
        endpoints.dedup_by(|later, first| later.address == first.address);
        self.state.send_if_modified(|state| {
            let first = state.confirmed.is_none();
            let recovered = state.failing.take().is_some();
            state.confirmed = Some(Instant::now());
            let same = state.endpoints.len() == endpoints.len()
                && state.endpoints.iter().zip(&endpoints).all(|(old, new)| **old == *new);
            if !same {
                state.endpoints = share(endpoints, &state.endpoints);
            }
            first || recovered || !same
        });
    }

    /// Confirms the last list.
    pub fn confirm(&self) {
        self.state.send_if_modified(|state| {
            if state.confirmed.is_some() {
                state.confirmed = Some(Instant::now());
            }
            state.failing.take().is_some()
        });
    }

    /// Reports that the list could not be renewed. The last one stays in force.
    pub fn failed(&self, reason: impl Into<Arc<str>>) {
        self.state.send_modify(|state| {
            let since = state.failing.as_ref().map_or_else(Instant::now, |failing| failing.since);
            state.failing = Some(SourceError { since, reason: reason.into() });
        });
    }

    /// Returns the last list.
    #[must_use]
    pub fn last(&self) -> EndpointList {
        self.state.borrow().clone()
    }

    /// Completes when there is no subscriber any more.
    pub async fn closed(&self) {
        self.state.closed().await;
    }
}

/// The list, with what did not change taken from the last one. Both are sorted.
fn share(endpoints: Vec<Endpoint>, last: &[Arc<Endpoint>]) -> Arc<[Arc<Endpoint>]> {
    let mut last = last.iter().peekable();
    let mut shared = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        while last.next_if(|old| old.address < endpoint.address).is_some() {}
        shared.push(match last.next_if(|old| ***old == endpoint) {
            Some(old) => Arc::clone(old),
            None => Arc::new(endpoint),
        });
    }
    shared.into()
}
