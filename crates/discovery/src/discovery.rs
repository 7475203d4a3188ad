//! [`Discovery`]: where lists of endpoints come from, and how they reach a channel.

use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::EscapedText;
use farcall_runtime::time::{Instant, timeout};
use tokio::sync::{Notify, watch};

use crate::backoff::{Backoff, Jitter};
use crate::endpoint::Endpoint;
use crate::next_list::NextList;

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
    /// The other services of the source if the list is empty, for an error: "it lists Bar, Baz". `None` if it did not
    /// say.
    pub note: Option<Arc<str>>,
}

/// Services that a note lists; more would not be read.
const MAX_NOTED_SERVICES: usize = 8;
/// The pauses between requests for the note of a list that stays empty.
const FIRST_NOTE_PAUSE: Duration = Duration::from_secs(10);
const MAX_NOTE_PAUSE: Duration = Duration::from_secs(300);

/// Returns the note about an empty list of a service in a source with these other services.
#[must_use]
pub fn other_services<Name: AsRef<str>>(names: impl IntoIterator<Item = Name>) -> String {
    let mut names = names.into_iter();
    let listed: Vec<String> = names
        .by_ref()
        .take(MAX_NOTED_SERVICES)
        .map(|name| match name.as_ref() {
            "" => "the plain list of servers".to_owned(),
            name => format!("`{}`", EscapedText(name)),
        })
        .collect();
    match (listed.is_empty(), names.count()) {
        (true, _) => "it lists no service at all".to_owned(),
        (false, 0) => format!("it lists {}", listed.join(", ")),
        (false, more) => format!("it lists {} and {more} more", listed.join(", ")),
    }
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
    /// Notified when a list was published.
    published: Notify,
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
    (Publisher { state, published: Notify::new() }, subscription)
}

impl Publisher {
    /// Puts this list in place of the last one. Of endpoints with the same address the first
    /// counts. An empty list is a list, too: the service has no endpoint.
    ///
    /// Takes time that grows with the list, some 100 ms for 100,000 endpoints that are new: a source of that many calls it on a
    /// thread for blocking work.
    pub fn publish(&self, endpoints: Vec<Endpoint>) {
        self.replace(NextList::new(endpoints, self.last().endpoints));
    }

    /// Publishes a list that is ready, which takes the same time for each.
    pub(crate) fn replace(&self, next: NextList) {
        self.state.send_if_modified(|state| {
            let first = state.confirmed.is_none();
            let recovered = state.failing.take().is_some();
            state.confirmed = Some(Instant::now());
            let changed = next.replace(&mut state.endpoints);
            if !state.endpoints.is_empty() {
                state.note = None;
            }
            first || recovered || changed
        });
        self.published.notify_waiters();
    }

    /// Says what the source has instead, while the list is empty: "it lists Bar, Baz". It is forgotten once the list is
    /// not empty.
    pub fn note(&self, note: impl Into<Arc<str>>) {
        let note = note.into();
        self.state.send_if_modified(|state| {
            let changed = state.endpoints.is_empty() && state.note.as_deref() != Some(&*note);
            if changed {
                state.note = Some(note);
            }
            changed
        });
    }

    /// Asks for a note whenever the list has become empty, and again in growing intervals while it stays so. Ends when
    /// `ask` returns `None`: the source cannot say.
    pub async fn note_while_empty<Asking>(&self, mut ask: impl FnMut() -> Asking)
    where
        Asking: Future<Output = Option<String>>,
    {
        let mut pauses = Backoff::new(FIRST_NOTE_PAUSE, MAX_NOTE_PAUSE).jitter(Jitter::Equal);
        loop {
            self.until(|list| list.confirmed.is_some() && list.endpoints.is_empty()).await;
            let Some(note) = ask().await else { return };
            self.note(note);
            let filled = self.until(|list| !list.endpoints.is_empty());
            if timeout(pauses.next_pause(), filled).await.is_ok() {
                pauses.reset();
            }
        }
    }

    /// Waits until the list is such. Not by a subscription, which would keep [`Publisher::closed`] from completing.
    async fn until(&self, wanted: impl Fn(&EndpointList) -> bool) {
        loop {
            // Created before the check, so that a list published in between is noticed.
            let published = self.published.notified();
            if wanted(&self.state.borrow()) {
                return;
            }
            published.await;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, weight: u16) -> Endpoint {
        Endpoint::new(format!("tcp@{host}:1").parse().unwrap()).with_weight(weight)
    }

    #[test]
    fn other_services_are_named_up_to_eight() {
        let names: Vec<String> = (0..9).map(|number| format!("s{number}")).collect();
        assert_eq!(other_services::<&str>([]), "it lists no service at all");
        assert_eq!(other_services(["", "a"]), "it lists the plain list of servers, `a`");
        let eight = "it lists `s0`, `s1`, `s2`, `s3`, `s4`, `s5`, `s6`, `s7`";
        assert_eq!(other_services(&names[..8]), eight);
        assert_eq!(other_services(&names), format!("{eight} and 1 more"));
    }

    #[test]
    fn same_list_again_wakes_nobody() {
        let (publisher, mut list) = publisher();
        let publish =
            |hosts: &[&str]| publisher.publish(hosts.iter().map(|host| endpoint(host, 1)).collect());
        let mut is_new = || {
            let is_new = list.has_changed().unwrap();
            list.mark_unchanged();
            is_new
        };
        publisher.confirm();
        assert!(!is_new(), "there is nothing to confirm");
        publish(&[]);
        assert!(is_new() && publisher.last().confirmed.is_some(), "the first list, which is empty");
        publish(&["b", "a", "b"]);
        assert!(is_new());
        let hosts: Vec<_> = publisher.last().endpoints.iter().map(|one| one.address.to_string()).collect();
        assert_eq!(hosts, ["tcp@a:1", "tcp@b:1"]);
        publish(&["a", "b"]);
        assert!(!is_new());
        publisher.failed("no answer");
        assert!(is_new());
        let since = publisher.last().failing.unwrap().since;
        publisher.failed("still none");
        let failing = publisher.last().failing.unwrap();
        assert_eq!((&*failing.reason, failing.since), ("still none", since));
        assert!(is_new());
        publisher.confirm();
        assert!(is_new() && publisher.last().failing.is_none());
        publisher.confirm();
        assert!(!is_new());
        publish(&["a"]);
        assert!(is_new(), "a shorter list with the same beginning");
    }

    #[test]
    fn note_is_kept_while_there_are_no_endpoints() {
        let (publisher, mut list) = publisher();
        publisher.note("no such service");
        assert_eq!(publisher.last().note.as_deref(), Some("no such service"));
        list.mark_unchanged();
        publisher.note("no such service");
        assert!(!list.has_changed().unwrap());
        publisher.publish(Vec::new());
        assert!(publisher.last().note.is_some());
        publisher.publish(vec![endpoint("a", 1)]);
        assert!(publisher.last().note.is_none());
        publisher.note("no such service");
        assert!(publisher.last().note.is_none(), "there are endpoints");
    }
}
