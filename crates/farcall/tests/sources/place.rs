//! [`Place`]: what a place must offer so that the suite can run there.

use std::time::Duration;

use farcall_discovery::{Discovery, Registrar};

/// The time to live of all instances of the suite: no less than any place allows.
pub(crate) const TTL: Duration = Duration::from_secs(3);

/// A place where servers register, of its own for each test, with nothing in it. It ends when it is
/// dropped.
pub(crate) trait Place: Send + Sync + Sized + 'static {
    /// What registers there.
    type Registrar: Registrar;
    /// What finds there.
    type Discovery: Discovery;

    async fn start() -> Self;

    /// A registrar whose instances have the time to live [`TTL`].
    fn registrar(&self) -> Self::Registrar;

    /// A discovery that watches, and tries again soon after failures.
    fn discovery(&self, service: &str) -> Self::Discovery;

    /// Nobody reaches it, until [`restore`](Self::restore). What it knows it keeps, and time goes on.
    fn cut(&self);

    fn restore(&self);

    /// It knows no instance any more, as if it had been started anew.
    async fn forget(&self);

    /// How many connections to it are open; none where there are no connections.
    fn connections(&self) -> Option<usize>;
}

/// Makes a test of each behaviour at this place.
macro_rules! test_place {
    ($place:ty) => {
        crate::place::test_place! { $place, behaviours:
            a_registered_instance_is_seen_as_it_is,
            instances_that_were_there_before_are_seen,
            a_service_without_instances_is_an_empty_list,
            two_services_do_not_mix,
            an_instance_that_registers_twice_is_one,
            a_changed_weight_is_seen,
            an_instance_of_weight_zero_is_seen_as_drained,
            many_instances_are_all_seen,
            renewals_keep_an_instance,
            an_instance_that_is_not_renewed_goes_after_its_ttl,
            a_deregistered_instance_goes_at_once,
            a_server_that_stops_goes_at_once,
            what_nobody_can_dial_is_refused,
            every_watcher_sees_the_same,
            a_discovery_ends_when_nobody_listens,
            a_dropped_discovery_leaves_no_connection,
        }
        crate::place::test_place! { $place, outages:
            an_instance_that_is_no_longer_known_is_told_so,
            a_server_that_is_no_longer_known_registers_again,
            an_unreachable_place_changes_nothing_and_is_said,
            a_discovery_that_starts_in_an_outage_finds_all_after_it,
            registering_at_an_unreachable_place_fails_with_a_reason,
            a_place_that_comes_back_has_the_right_list,
            what_changed_in_an_outage_is_seen_after_it,
        }
    };
    ($place:ty, $module:ident: $($behaviour:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                crate::$module::$behaviour(&<$place as crate::place::Place>::start().await).await;
            }
        )*
    };
}
pub(crate) use test_place;
