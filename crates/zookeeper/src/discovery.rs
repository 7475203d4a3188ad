//! [`ZookeeperDiscovery`]: follows the nodes of a service by a persistent watch, and publishes each change.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use farcall_discovery::source::{self, Outage};
use farcall_discovery::{Backoff, Discovery, Instance, Jitter, Publisher, SourceError, other_services};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, interval, sleep, timeout_at};
use tracing::debug;
use zookeeper_client::{AddWatchMode, EventType, PersistentWatcher, SessionState, WatchedEvent};

use crate::call_error::CallError;
use crate::error::ZookeeperOptionsError;
use crate::listing::Listing;
use crate::options::ZookeeperOptions;
use crate::paths::{service_of, service_path};
use crate::session::Session;

/// The most nodes of a service: as many as from the other sources.
const MAX_NODES: usize = 100_000;
/// The nodes that are asked for at once.
const READS_AT_ONCE: usize = 64;
/// The number of services that an empty list is explained with.
const MAX_SERVICES: usize = 1000;
/// The pauses after failures.
const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(250), Duration::from_secs(5)).jitter(Jitter::Equal);
/// Changes that come within this time are published together.
const GATHERING: Duration = Duration::from_millis(20);
/// While the session is connected, a list without a change is compared with the number of nodes so often, and confirmed.
const CONFIRMING: Duration = Duration::from_secs(10);

/// Finds the instances of a service that a [`ZookeeperRegistrar`](crate::ZookeeperRegistrar) keeps in ZooKeeper.
///
/// Changes are published within 20 ms after ZooKeeper reports them. While it cannot be reached, the last list stays in force,
/// [`EndpointList::failing`](farcall_discovery::EndpointList::failing) has the reason, and it is tried again after 0.25 s, 0.5 s … 5 s,
/// of which a random half to whole is waited. After each reconnection all nodes are read again, since a persistent watch does not tell what it missed.
///
/// A node whose data is no instance, as [`Instance::check`] has it, is left out with a warning in the log. The path says which
/// service and id the data belongs to. With more than 100,000 nodes the list is not taken; ZooKeeper itself answers with at most
/// 1 MiB of names, unless its `jute.maxbuffer` is raised.
#[derive(Debug)]
#[must_use = "a discovery does nothing until it is run"]
pub struct ZookeeperDiscovery {
    options: ZookeeperOptions,
    path: String,
    listing: Listing,
}

impl ZookeeperDiscovery {
    /// Creates a discovery of this service; `""` is the plain list of servers. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// An option or the name of the service is invalid; the error names it, and what is allowed.
    pub fn new(options: &ZookeeperOptions, service: &str) -> Result<Self, ZookeeperOptionsError> {
        options.check()?;
        Instance::check_service(service)?;
        Ok(Self {
            options: options.clone(),
            path: service_path(&options.prefix, service),
            listing: Listing::new(service.to_owned()),
        })
    }

    /// Returns the names of the services below the prefix that have instances, in their order; `""` is the plain list of servers.
    /// This asks for each node, 64 at once. With more than 100,000 nodes there is no list.
    ///
    /// # Errors
    ///
    /// ZooKeeper cannot be reached, or refuses it; the error has the reason.
    pub async fn services(&self) -> Result<Vec<String>, SourceError> {
        let found = services(&self.options, None).await;
        found.map_err(|error| SourceError::new(error.to_string()))
    }
}

impl Discovery for ZookeeperDiscovery {
    fn describe(&self) -> String {
        let service = match self.listing.service() {
            "" => "servers",
            service => service,
        };
        format!("{service} at ZooKeeper {}", self.options.servers)
    }

    async fn run(mut self, publisher: Publisher) {
        let options = self.options.clone();
        let others = || async { services(&options, Some(MAX_SERVICES)).await.ok().map(other_services) };
        source::run(&publisher, self.follow(&publisher), others).await;
    }

    fn try_clone(&self) -> Option<Self> {
        let listing = Listing::new(self.listing.service().to_owned());
        Some(Self { options: self.options.clone(), path: self.path.clone(), listing })
    }
}

/// Returns the services below the prefix that have instances, of the first nodes or of all, in a session that ends with it.
async fn services(options: &ZookeeperOptions, first: Option<usize>) -> Result<Vec<String>, CallError> {
    let session = Session::open(options).await?;
    let prefix = &options.prefix;
    let nodes = session.find(prefix, session.client().list_children(prefix)).await?.unwrap_or_default();
    if first.is_none() && nodes.len() > MAX_NODES {
        return Err(CallError::TooMany { servers: session.servers(), limit: MAX_NODES });
    }
    let session = &session;
    let services = nodes.into_iter().take(first.unwrap_or(MAX_NODES)).map(|node| async move {
        let stat = session.stat(&format!("{prefix}/{node}")).await?;
        Ok::<_, CallError>(stat.filter(|stat| stat.num_children > 0).map(|_| service_of(&node).to_owned()))
    });
    let found: Vec<_> = stream::iter(services).buffer_unordered(READS_AT_ONCE).try_collect().await?;
    let mut services: Vec<_> = found.into_iter().flatten().collect();
    services.sort_unstable();
    Ok(services)
}

impl ZookeeperDiscovery {
    async fn follow(&mut self, publisher: &Publisher) -> Infallible {
        let mut outage = Outage::new("ZooKeeper", self.describe(), BACKOFF);
        loop {
            let Err(error) = self.session(publisher, &mut outage).await;
            sleep(outage.failed(publisher, &error)).await;
        }
    }

    /// Publishes what is known.
    async fn publish(&mut self, publisher: &Publisher) {
        let (count, empty) = (self.listing.len(), Listing::new(self.listing.service().to_owned()));
        let listing = std::mem::replace(&mut self.listing, empty);
        self.listing = source::publish_of(publisher, count, listing, |listing| listing.endpoints()).await;
    }

    /// Opens a session, and publishes what is there and each change until it is lost.
    async fn session(&mut self, publisher: &Publisher, outage: &mut Outage) -> Result<Infallible, CallError> {
        let session = Session::open(&self.options).await?;
        let mut watch = self.watch_and_read(&session).await?;
        self.publish(publisher).await;
        outage.end();
        let mut confirming = interval(CONFIRMING);
        loop {
            // Cancel-safe: an event that was received is returned, and others wait in the watch.
            let first = tokio::select! {
                event = watch.changed() => event,
                _ = confirming.tick() => {
                    if !session.is_connected() {
                        continue;
                    }
                    if self.has_missed_a_change(&session).await? {
                        debug!(place = outage.place(), "the watch has missed a change; reading all nodes again");
                        watch = self.watch_and_read(&session).await?;
                        self.publish(publisher).await;
                    } else {
                        publisher.confirm();
                    }
                    continue;
                }
            };
            let changes = self.gather(first, &mut watch).await;
            if changes.is_lost {
                return Err(CallError::SessionLost { servers: session.servers() });
            }
            if changes.is_disconnected {
                publisher.failed(CallError::Disconnected { servers: session.servers() }.to_string());
                continue;
            }
            if changes.is_reconnected {
                // Another watch, too: one that went through several connections was seen to be silent.
                watch = self.watch_and_read(&session).await?;
            } else {
                self.read_some(&session, changes.names.into_iter().collect()).await?;
            }
            self.publish(publisher).await;
        }
    }

    /// Collects the events that come together, such as when many servers start.
    async fn gather(&self, first: WatchedEvent, watch: &mut PersistentWatcher) -> Changes {
        let mut changes = Changes::default();
        let until = Instant::now() + GATHERING;
        let mut next = Some(first);
        while let Some(event) = next {
            changes.add(&event, &self.path);
            if changes.is_lost {
                // After the last event of a session there is no other, and the watch must not be asked for one.
                return changes;
            }
            next = timeout_at(until, watch.changed()).await.ok();
        }
        changes
    }

    /// Watches the service, and reads all nodes then, so that no change is missed. The service need not be there yet.
    async fn watch_and_read(&mut self, session: &Session) -> Result<PersistentWatcher, CallError> {
        let watch = session.client().watch(&self.path, AddWatchMode::PersistentRecursive);
        let watch = session.request(&self.path, watch).await?;
        self.read(session).await?;
        Ok(watch)
    }

    /// Returns `true` if the service has another number of nodes than the list.
    async fn has_missed_a_change(&self, session: &Session) -> Result<bool, CallError> {
        let children = session.stat(&self.path).await?.map_or(0, |stat| stat.num_children);
        Ok(usize::try_from(children) != Ok(self.listing.len()))
    }

    /// Reads all nodes.
    async fn read(&mut self, session: &Session) -> Result<(), CallError> {
        let children = session.client().list_children(&self.path);
        let names = session.find(&self.path, children).await?.unwrap_or_default();
        self.listing.keep(&names);
        self.read_some(session, names).await
    }

    /// Reads these nodes, of which some may be gone.
    async fn read_some(&mut self, session: &Session, names: Vec<String>) -> Result<(), CallError> {
        if names.len() > MAX_NODES {
            return Err(CallError::TooMany { servers: session.servers(), limit: MAX_NODES });
        }
        let service = &self.path;
        let reads = names.into_iter().map(|name| {
            let path = format!("{service}/{name}");
            async move {
                let data = session.find(&path, session.client().get_data(&path)).await;
                (name, data)
            }
        });
        let mut reads = stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        // Data is read as it comes: that of all nodes would be gigabytes.
        while let Some((name, data)) = reads.next().await {
            match data? {
                Some((data, stat)) => self.listing.put(&name, &data, stat.czxid, stat.mzxid),
                None => self.listing.remove(&name),
            }
        }
        if self.listing.len() > MAX_NODES {
            return Err(CallError::TooMany { servers: session.servers(), limit: MAX_NODES });
        }
        Ok(())
    }
}

/// The changes that some events of a watch tell together.
#[derive(Debug, Default)]
struct Changes {
    /// The nodes to read again.
    names: BTreeSet<String>,
    /// The connection is lost, and not there again.
    is_disconnected: bool,
    /// The connection was lost, and is there again: changes may have been missed.
    is_reconnected: bool,
    is_lost: bool,
}

impl Changes {
    fn add(&mut self, event: &WatchedEvent, service: &str) {
        if event.event_type == EventType::Session {
            self.add_state(event.session_state);
        } else {
            self.add_node(&event.path, service);
        }
    }

    fn add_state(&mut self, state: SessionState) {
        self.is_lost = state.is_terminated();
        self.is_disconnected = state == SessionState::Disconnected;
        self.is_reconnected |= !self.is_disconnected;
    }

    fn add_node(&mut self, path: &str, service: &str) {
        if let Some(name) = path.strip_prefix(service).and_then(|rest| rest.strip_prefix('/'))
            && !name.contains('/')
        {
            self.names.insert(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(states: &[SessionState]) -> Changes {
        let mut changes = Changes::default();
        states.iter().for_each(|state| changes.add_state(*state));
        changes
    }

    #[test]
    fn reconnection_is_noticed_among_other_states_of_the_session() {
        use SessionState::{AuthFailed, Closed, ConnectedReadOnly, Disconnected, Expired, SyncConnected};
        for (states, is_disconnected, is_reconnected) in [
            (&[][..], false, false),
            (&[Disconnected], true, false),
            (&[SyncConnected], false, true),
            (&[ConnectedReadOnly], false, true),
            (&[Disconnected, SyncConnected], false, true),
            (&[SyncConnected, Disconnected], true, true),
            (&[Disconnected, SyncConnected, Disconnected, SyncConnected], false, true),
        ] {
            let changes = after(states);
            assert_eq!(
                (changes.is_disconnected, changes.is_reconnected, changes.is_lost),
                (is_disconnected, is_reconnected, false),
                "{states:?}"
            );
        }
        for lost in [AuthFailed, Expired, Closed] {
            assert!(after(&[Disconnected, lost]).is_lost, "{lost:?}");
        }
    }

    #[test]
    fn only_nodes_directly_below_the_service_are_read_again() {
        let mut changes = Changes::default();
        for path in ["/p/Arith", "/p/Arith/a#1", "/p/Arith/a#1", "/p/Arith/b#1/c", "/p/Arith2/d#1", "/p", "/"]
        {
            changes.add_node(path, "/p/Arith");
        }
        assert_eq!(Vec::from_iter(changes.names), ["a#1"]);
    }
}
