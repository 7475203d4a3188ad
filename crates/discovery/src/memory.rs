//! [`MemoryRegistry`]: a registry within one process, for tests and for programs that are one process.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farcall_protocol::time::later;
use farcall_runtime::time::{Instant, sleep_until};
use tokio::sync::Notify;

use crate::discovery::{Discovery, Publisher, other_services};
use crate::endpoint::{AdvertisedState, Endpoint};
use crate::instance::Instance;
use crate::registrar::{Registered, Registrar, RegistrarError, RegistrarErrorKind, Renewal};
use crate::source::publish_of;

/// The number of heartbeats in a time to live.
const HEARTBEATS_OF_A_TTL: u32 = 3;

/// Which instances are up, as registered with this value or with a clone of it. Cloning is cheap.
///
/// ```
/// use farcall_discovery::{Discovery, Instance, MemoryRegistry, Registrar, publisher};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let registry = MemoryRegistry::new();
/// let instance = Instance::new("Arith", "tcp@10.0.0.5:7001".parse()?);
/// registry.registrar().register(&instance).await?;
///
/// let (publisher, mut seen) = publisher();
/// tokio::spawn(registry.discovery("Arith").run(publisher));
/// seen.changed().await?;
/// assert_eq!(seen.borrow().endpoints[0].address, instance.addr);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryRegistry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ttl: Duration,
    entries: Mutex<Entries>,
    /// Wakes those who watch, in the order in which they began to wait.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    /// By service and id. Those whose time is over go at the next registration, so that there are no
    /// more than were registered within a time to live.
    entries: BTreeMap<(String, String), Entry>,
    /// The reason why all requests fail; `None` if they do not.
    interrupted: Option<String>,
    /// The number of registrations that were made.
    registrations: u64,
}

/// An instance, and the registrations that keep it: it lives until the last of them has ended or expired.
#[derive(Debug)]
struct Entry {
    /// Shared with lists that are being built.
    instance: Arc<Instance>,
    /// The expiry of each registration. Those whose time is over go at the next one's renewal.
    registrations: BTreeMap<MemoryLease, Instant>,
}

/// The instances of a service that are up, as they were at a moment.
#[derive(Debug)]
struct UpInstances {
    instances: Vec<Arc<Instance>>,
    /// The expiry of the first of them.
    expiry: Option<Instant>,
}

/// The lease of a registration in a [`MemoryRegistry`], which distinguishes it from others of the same instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemoryLease(u64);

impl MemoryRegistry {
    /// The time to live of an instance that requests none.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(30);

    /// Creates an empty registry, in which instances that request no time to live have
    /// [`DEFAULT_TTL`](Self::DEFAULT_TTL).
    #[must_use]
    pub fn new() -> Self {
        Self::with_ttl(Self::DEFAULT_TTL)
    }

    /// Creates an empty registry, in which instances that request no time to live have this one.
    #[must_use]
    pub fn with_ttl(ttl: Duration) -> Self {
        Self { shared: Arc::new(Shared { ttl, entries: Mutex::default(), changed: Notify::new() }) }
    }

    /// Returns the registrar for servers.
    #[must_use]
    pub fn registrar(&self) -> MemoryRegistrar {
        MemoryRegistrar { registry: self.clone() }
    }

    /// Finds the instances of a service; `""` is the plain list of servers.
    #[must_use]
    pub fn discovery(&self, service: impl Into<String>) -> MemoryDiscovery {
        MemoryDiscovery { registry: self.clone(), service: service.into() }
    }

    /// Fails all requests from now on with this reason, as if it were unreachable. Time goes
    /// on: instances that are not renewed expire.
    pub fn interrupt(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.change(|entries| entries.interrupted = Some(reason));
    }

    /// Answers again after [`interrupt`](Self::interrupt).
    pub fn restore(&self) {
        self.change(|entries| entries.interrupted = None);
    }

    /// Forgets every instance, as if it had been restarted.
    pub fn clear(&self) {
        self.change(|entries| entries.entries.clear());
    }

    /// Changes what is registered, and wakes those who watch.
    fn change<T>(&self, change: impl FnOnce(&mut Entries) -> T) -> T {
        let changed = change(&mut self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.changed.notify_waiters();
        changed
    }

    fn ttl(&self, instance: &Instance) -> Duration {
        instance.ttl_ms.map_or(self.shared.ttl, Duration::from_millis)
    }

    /// Returns the services that have instances.
    fn services(&self) -> Vec<String> {
        let entries = self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let up = entries.entries.iter().filter(|(_, entry)| now < entry.until());
        let mut services: Vec<_> = up.map(|((service, _), _)| service.clone()).collect();
        services.dedup();
        services
    }

    /// Returns the instances that are up. Only references are copied under the lock, so that heartbeats do not wait while a
    /// long list is built.
    fn up(&self, service: &str) -> Result<UpInstances, String> {
        let entries = self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &entries.interrupted {
            return Err(reason.clone());
        }
        let now = Instant::now();
        let first = (service.to_owned(), String::new());
        let mut up = UpInstances { instances: Vec::new(), expiry: None };
        let of_service = entries.entries.range(first..).take_while(|((name, _), _)| name == service);
        for (_, entry) in of_service {
            let until = entry.until();
            if now < until {
                up.instances.push(Arc::clone(&entry.instance));
                up.expiry = Some(up.expiry.map_or(until, |first| first.min(until)));
            }
        }
        Ok(up)
    }
}

impl UpInstances {
    /// Builds the list of their endpoints.
    fn endpoints(&self) -> Vec<Endpoint> {
        self.instances.iter().map(|instance| instance.endpoint(AdvertisedState::Up)).collect()
    }
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl Entries {
    fn check_reachable(&self) -> Result<(), RegistrarError> {
        match &self.interrupted {
            None => Ok(()),
            Some(reason) => Err(RegistrarError::new(RegistrarErrorKind::Unavailable, reason.clone())),
        }
    }
}

impl Entry {
    /// Returns when the last registration expires.
    fn until(&self) -> Instant {
        *self.registrations.values().max().expect("an entry has registrations")
    }
}

/// Registers in a [`MemoryRegistry`].
#[derive(Clone, Debug)]
pub struct MemoryRegistrar {
    registry: MemoryRegistry,
}

impl Registrar for MemoryRegistrar {
    type Lease = MemoryLease;

    fn describe(&self) -> String {
        "this process's registry".to_owned()
    }

    async fn register(&self, instance: &Instance) -> Result<Registered<MemoryLease>, RegistrarError> {
        let instance = instance.clone().check()?;
        let ttl = self.registry.ttl(&instance);
        self.registry.change(|entries| {
            entries.check_reachable()?;
            let now = Instant::now();
            entries.entries.retain(|_, entry| now < entry.until());
            entries.registrations += 1;
            let lease = MemoryLease(entries.registrations);
            let known = entries.entries.remove(&name(&instance));
            let mut registrations = known.map(|known| known.registrations).unwrap_or_default();
            registrations.retain(|_, until| now < *until);
            registrations.insert(lease.clone(), later(now, ttl));
            entries.entries.insert(name(&instance), Entry { instance: Arc::new(instance), registrations });
            Ok(Registered { lease, heartbeat: ttl / HEARTBEATS_OF_A_TTL })
        })
    }

    async fn renew(&self, instance: &Instance, lease: &mut MemoryLease) -> Result<Renewal, RegistrarError> {
        let ttl = self.registry.ttl(instance);
        // Watchers are not woken: they look again when the old time is over.
        let mut entries = self.registry.shared.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.check_reachable()?;
        let now = Instant::now();
        let Some(entry) = entries.entries.get_mut(&name(instance)) else { return Ok(Renewal::Unknown) };
        match entry.registrations.get_mut(lease).filter(|until| now < **until) {
            None => Ok(Renewal::Unknown),
            Some(until) => {
                *until = later(now, ttl);
                entry.registrations.retain(|_, until| now < *until);
                Ok(Renewal::Renewed(ttl / HEARTBEATS_OF_A_TTL))
            }
        }
    }

    async fn deregister(&self, instance: &Instance, lease: MemoryLease) -> Result<(), RegistrarError> {
        self.registry.change(|entries| {
            entries.check_reachable()?;
            let name = name(instance);
            if let Some(entry) = entries.entries.get_mut(&name) {
                let last = entry.registrations.remove(&lease).is_some() && entry.registrations.is_empty();
                if last {
                    entries.entries.remove(&name);
                }
            }
            Ok(())
        })
    }
}

/// Under what an instance is kept; without an id it is its address.
fn name(instance: &Instance) -> (String, String) {
    let id = if instance.id.is_empty() { instance.addr.to_string() } else { instance.id.clone() };
    (instance.service.clone(), id)
}

/// Finds the instances of a service in a [`MemoryRegistry`].
#[derive(Clone, Debug)]
pub struct MemoryDiscovery {
    registry: MemoryRegistry,
    service: String,
}

impl Discovery for MemoryDiscovery {
    fn describe(&self) -> String {
        let service = if self.service.is_empty() { "servers" } else { &self.service };
        format!("{service} in this process's registry")
    }

    async fn run(self, publisher: Publisher) {
        loop {
            let mut changed = pin!(self.registry.shared.changed.notified());
            // Before looking, so that no change between is missed.
            changed.as_mut().enable();
            let expiry = match self.registry.up(&self.service) {
                Ok(up) => {
                    let count = up.instances.len();
                    let up = publish_of(&publisher, count, up, |up| up.endpoints()).await;
                    if up.instances.is_empty() {
                        publisher.note(other_services(self.registry.services()));
                    }
                    up.expiry
                }
                Err(reason) => {
                    publisher.failed(reason);
                    None
                }
            };
            let expired = async {
                match expiry {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // All three lose nothing when they are dropped.
                () = changed => {}
                () = expired => {}
                () = publisher.closed() => return,
            }
        }
    }

    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use farcall_transport::Address;

    use super::*;
    use crate::discovery::{Subscription, publisher};

    fn instance(service: &str, port: u16) -> Instance {
        Instance::new(service, Address::tcp(([10, 0, 0, 1], port).into()))
    }

    fn watch(registry: &MemoryRegistry, service: &str) -> Subscription {
        let (publisher, seen) = publisher();
        tokio::spawn(registry.discovery(service).run(publisher));
        seen
    }

    fn ports(seen: &Subscription) -> Vec<u16> {
        seen.borrow().endpoints.iter().filter_map(|endpoint| endpoint.address.port()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn clone_for_another_runtime_sees_later_instances() {
        let registry = MemoryRegistry::default();
        let clone = registry.discovery("S").try_clone().expect("a channel begins again with it");
        let (publisher, mut seen) = publisher();
        tokio::spawn(clone.run(publisher));
        registry.registrar().register(&instance("S", 1)).await.unwrap();
        seen.wait_for(|found| !found.endpoints.is_empty()).await.unwrap();
        assert_eq!(ports(&seen), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn instance_expires_at_its_time_to_live_after_the_last_renewal() {
        let registry = MemoryRegistry::with_ttl(Duration::from_secs(10));
        let (registrar, mut seen) = (registry.registrar(), watch(&registry, "S"));
        let begin = Instant::now();
        let mut lease = registrar.register(&instance("S", 1)).await.unwrap().lease;
        tokio::time::sleep(Duration::from_secs(9)).await;
        let renewed = registrar.renew(&instance("S", 1), &mut lease).await.unwrap();
        assert_eq!(renewed, Renewal::Renewed(Duration::from_secs(10) / 3));

        seen.wait_for(|seen| seen.endpoints.len() == 1).await.unwrap();
        seen.wait_for(|seen| seen.endpoints.is_empty()).await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), 19);
        assert_eq!(registrar.renew(&instance("S", 1), &mut lease).await.unwrap(), Renewal::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn instance_lives_until_the_last_registration_has_ended_or_expired() {
        let registry = MemoryRegistry::with_ttl(Duration::from_secs(10));
        let registrar = registry.registrar();
        let instance = instance("S", 1);
        let register = async || registrar.register(&instance).await.unwrap().lease;
        let count = || registry.up("S").unwrap().instances.len();

        let (first, second) = (register().await, register().await);
        registrar.deregister(&instance, second.clone()).await.unwrap();
        // A late removal, of a registration that has ended.
        registrar.deregister(&instance, second).await.unwrap();
        assert_eq!(count(), 1);
        registrar.deregister(&instance, first).await.unwrap();
        assert_eq!(count(), 0);

        // In paused time: the first registration expires after 10 s, the second is 6 s old then.
        let crashed = register().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut alive = register().await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(matches!(registrar.renew(&instance, &mut alive).await, Ok(Renewal::Renewed(_))));
        assert_eq!(registrar.renew(&instance, &mut crashed.clone()).await.unwrap(), Renewal::Unknown);
        registrar.deregister(&instance, crashed).await.unwrap();
        assert_eq!(count(), 1);
        registrar.deregister(&instance, alive).await.unwrap();
        assert_eq!(count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn services_do_not_mix() {
        let registry = MemoryRegistry::new();
        for (service, port) in [("", 1), ("A", 2), ("AA", 3), ("A", 4), ("B", 5)] {
            registry.registrar().register(&instance(service, port)).await.unwrap();
        }
        for (service, expected) in [("", vec![1]), ("A", vec![2, 4]), ("AA", vec![3]), ("C", vec![])] {
            let mut seen = watch(&registry, service);
            seen.wait_for(|seen| seen.confirmed.is_some()).await.unwrap();
            assert_eq!(ports(&seen), expected, "{service}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn list_is_built_of_shared_instances_without_the_lock() {
        let registry = MemoryRegistry::new();
        registry.registrar().register(&instance("A", 1)).await.unwrap();
        registry.registrar().register(&instance("B", 2)).await.unwrap();
        let up = registry.up("A").unwrap();
        let entries = registry.shared.entries.try_lock().expect("the list is still to be built");
        let kept = &entries.entries[&name(&instance("A", 1))];
        assert!(Arc::ptr_eq(&up.instances[0], &kept.instance));
        let ports: Vec<_> = up.endpoints().iter().filter_map(|endpoint| endpoint.address.port()).collect();
        assert_eq!((ports, up.expiry), (vec![1], Some(kept.until())));
    }

    #[tokio::test(start_paused = true)]
    async fn expired_instances_are_not_kept() {
        let registry = MemoryRegistry::with_ttl(Duration::from_secs(1));
        for port in 1..1000 {
            registry.registrar().register(&instance("S", port)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(registry.shared.entries.lock().unwrap().entries.len() <= 11);
    }

    #[tokio::test(start_paused = true)]
    async fn discovery_ends_without_subscribers() {
        let registry = MemoryRegistry::new();
        let (publisher, seen) = publisher();
        let running = tokio::spawn(registry.discovery("S").run(publisher));
        drop(seen);
        running.await.unwrap();
    }
}
