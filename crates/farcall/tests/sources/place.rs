//! [`Source`] and [`Place`]: the interfaces of what is under test.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use farcall_discovery::{Discovery, Registrar};
use tokio::sync::Mutex;

use crate::watcher::instance;

/// The time to live of instances that expire during a test: no less than any place allows.
pub(crate) const TTL: Duration = Duration::from_secs(3);
/// The time to live of instances that stay, though they are not renewed: longer than a test on a busy
/// machine.
pub(crate) const LASTING_TTL: Duration = Duration::from_secs(600);

/// A source of endpoints for one test, without any at first. Dropping it stops it.
pub(crate) trait Source: Send + Sync + Sized + 'static {
    /// The discovery of this source.
    type Discovery: Discovery;

    /// Starts one. Where servers register, their instances have this time to live.
    async fn start(ttl: Duration) -> Self;

    /// Returns a discovery that watches, and retries soon after failures.
    fn discovery(&self, service: &str) -> Self::Discovery;

    /// Makes the endpoints of a service those of [`instance`] at these ports.
    async fn list(&self, service: &str, ports: &[u16]);

    /// Makes it unreachable until [`restore`](Self::restore), from when this returns. It keeps its state, and time goes on.
    async fn cut(&self);

    async fn restore(&self);

    /// Returns the number of open connections, or `None` if it has no connections.
    fn connections(&self) -> Option<usize>;
}

/// A source at which servers register: a registry.
pub(crate) trait Place: Source {
    /// The registrar of this registry.
    type Registrar: Registrar;

    /// Returns a registrar whose instances have the time to live of the start.
    fn registrar(&self) -> Self::Registrar;

    /// Makes it forget all instances, as a restart without a snapshot does.
    async fn forget(&self);
}

/// The instances that [`Source::list`] of a registry has registered.
pub(crate) struct Listed<R: Registrar> {
    registrar: R,
    leases: Mutex<BTreeMap<(String, u16), R::Lease>>,
}

impl<R: Registrar> Listed<R> {
    pub(crate) fn with(registrar: R) -> Self {
        Self { registrar, leases: Mutex::default() }
    }

    /// Registers what is missing, and deregisters what is too much.
    pub(crate) async fn list(&self, service: &str, ports: &[u16]) {
        let mut leases = self.leases.lock().await;
        for &port in ports {
            if let Entry::Vacant(missing) = leases.entry((service.to_owned(), port)) {
                let registered = self.registrar.register(&instance(service, port)).await.unwrap();
                missing.insert(registered.lease);
            }
        }
        let gone: Vec<_> =
            leases.keys().filter(|(of, port)| of == service && !ports.contains(port)).cloned().collect();
        for key in gone {
            let lease = leases.remove(&key).unwrap();
            self.registrar.deregister(&instance(service, key.1), lease).await.unwrap();
        }
    }
}

/// Makes a test of each behaviour for a source at which no server registers.
macro_rules! test_source {
    ($source:ty) => {
        crate::place::tests_of_all!($source);
        crate::place::tests! { $source, listing, LASTING_TTL:
            outage_keeps_the_list_and_what_changed_is_discovered_after_it,
        }
    };
}
pub(crate) use test_source;

/// Makes a test of each behaviour for a registry.
macro_rules! test_place {
    ($place:ty) => {
        crate::place::tests_of_all!($place);
        crate::place::tests! { $place, behaviours, LASTING_TTL:
            registered_instance_is_discovered_with_all_its_fields,
            empty_list_names_the_other_services,
            services_are_kept_apart,
            instance_registered_twice_is_listed_once,
            namesake_stays_listed_when_the_first_stops,
            late_removal_after_a_restart_removes_nothing,
            changed_weight_is_discovered,
            instance_of_weight_zero_is_drained,
            deregistered_instance_is_removed_at_once,
            stopped_server_is_removed_at_once,
            undialable_and_misnamed_instances_are_refused,
        }
        crate::place::tests! { $place, behaviours, TTL:
            renewals_keep_an_instance_listed,
            instance_expires_without_renewal,
        }
        crate::place::tests! { $place, outages, LASTING_TTL:
            renewal_of_a_forgotten_instance_returns_unknown,
            changes_during_an_outage_are_discovered_after_it,
        }
        crate::place::tests! { $place, outages, TTL:
            forgotten_server_registers_again,
            unreachable_registry_keeps_the_list_and_is_reported,
            registering_at_an_unreachable_registry_fails_with_a_reason,
            registry_that_comes_back_has_the_right_list,
        }
    };
}
pub(crate) use test_place;

macro_rules! tests_of_all {
    ($source:ty) => {
        crate::place::tests! { $source, listing, LASTING_TTL:
            endpoints_listed_before_watching_are_discovered,
            service_without_endpoints_has_an_empty_list,
            changes_are_discovered,
            lists_of_services_are_kept_apart,
            fifty_endpoints_are_all_discovered,
            all_watchers_see_the_same_list,
            clone_discovers_the_same,
            discovery_ends_without_subscribers,
            dropped_discovery_closes_its_connections,
            discovery_started_in_an_outage_recovers,
        }
    };
}
pub(crate) use tests_of_all;

macro_rules! tests {
    ($source:ty, $module:ident, $ttl:ident: $($behaviour:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let source = <$source as crate::place::Source>::start(crate::place::$ttl).await;
                crate::$module::$behaviour(&source).await;
            }
        )*
    };
}
pub(crate) use tests;
