//! [`Place`]: the interface of a registry under test.

use std::time::Duration;

use farcall_discovery::{Discovery, Registrar};

/// The time to live of instances that expire during a test: no less than any place allows.
pub(crate) const TTL: Duration = Duration::from_secs(3);
/// The time to live of instances that stay, though they are not renewed: longer than a test on a busy
/// machine.
pub(crate) const LASTING_TTL: Duration = Duration::from_secs(600);

/// A registry for one test, empty at first. Dropping it stops it.
pub(crate) trait Place: Send + Sync + Sized + 'static {
    /// The registrar of this registry.
    type Registrar: Registrar;
    /// The discovery of this registry.
    type Discovery: Discovery;

    /// Starts one whose instances have this time to live.
    async fn start(ttl: Duration) -> Self;

    /// Returns a registrar whose instances have the time to live of the start.
    fn registrar(&self) -> Self::Registrar;

    /// Returns a discovery that watches, and retries soon after failures.
    fn discovery(&self, service: &str) -> Self::Discovery;

    /// Makes it unreachable until [`restore`](Self::restore), from when this returns. It keeps its state, and time goes on.
    async fn cut(&self);

    async fn restore(&self);

    /// Makes it forget all instances, as a restart without a snapshot does.
    async fn forget(&self);

    /// Returns the number of open connections, or `None` if it has no connections.
    fn connections(&self) -> Option<usize>;
}

/// Makes a test of each behaviour for this registry.
macro_rules! test_place {
    ($place:ty) => {
        crate::place::test_place! { $place, behaviours, LASTING_TTL:
            registered_instance_is_discovered_with_all_its_fields,
            instances_registered_before_watching_are_discovered,
            service_without_instances_has_an_empty_list,
            empty_list_names_the_other_services,
            services_are_kept_apart,
            instance_registered_twice_is_listed_once,
            namesake_stays_listed_when_the_first_stops,
            late_removal_after_a_restart_removes_nothing,
            changed_weight_is_discovered,
            instance_of_weight_zero_is_drained,
            fifty_instances_are_all_discovered,
            deregistered_instance_is_removed_at_once,
            stopped_server_is_removed_at_once,
            undialable_and_misnamed_instances_are_refused,
            all_watchers_see_the_same_list,
            discovery_ends_without_subscribers,
            dropped_discovery_closes_its_connections,
        }
        crate::place::test_place! { $place, behaviours, TTL:
            renewals_keep_an_instance_listed,
            instance_expires_without_renewal,
        }
        crate::place::test_place! { $place, outages, TTL:
            renewal_of_a_forgotten_instance_returns_unknown,
            forgotten_server_registers_again,
            unreachable_registry_keeps_the_list_and_is_reported,
            discovery_started_in_an_outage_recovers,
            registering_at_an_unreachable_registry_fails_with_a_reason,
            registry_that_comes_back_has_the_right_list,
            changes_during_an_outage_are_discovered_after_it,
        }
    };
    ($place:ty, $module:ident, $ttl:ident: $($behaviour:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let place = <$place as crate::place::Place>::start(crate::place::$ttl).await;
                crate::$module::$behaviour(&place).await;
            }
        )*
    };
}
pub(crate) use test_place;
