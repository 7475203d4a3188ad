//! Which endpoints a farcall client can call, and which one the next call goes to.
//!
//! A [`Discovery`] finds [`Endpoint`]s and publishes changes: a fixed list, a file, DNS, a registry,
//! or what a user writes. A [`Balancer`] makes a [`Picker`] of those that may be called, and the
//! picker chooses one for each call. On the other side a [`Registrar`] makes an [`Instance`] of a
//! service known, and [`keep_registered`] renews that for as long as the server runs.
//!
//! This crate makes no calls: channels do, in `farcall-client`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod balance;
mod discovery;
#[cfg(not(target_family = "wasm"))]
mod dns;
mod endpoint;
#[cfg(not(target_family = "wasm"))]
mod file;
/// Parsers of private modules, for the project's fuzz targets; they change without notice.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
pub mod fuzzing;
mod instance;
mod keep_registered;
mod memory;
mod next_list;
mod registrar;
/// Parts that the project's sources share; they change without notice.
#[doc(hidden)]
pub mod source;
#[cfg(all(feature = "dns-srv", not(target_family = "wasm")))]
mod srv;
mod static_list;

pub use self::backoff::{Backoff, Jitter};
pub use self::balance::{
    Balancer, BalancerFn, Candidate, Candidates, ConsistentHash, KeySource, LeastLoaded, Load, LoadReports,
    PeakEwma, PickRequest, Picker, Random, ReportedLoad, RoundRobin, Subset, WeightedRoundRobin, ZoneFirst,
    balancer_fn,
};
pub use self::discovery::{
    Discovery, EndpointList, Publisher, SourceError, Subscription, other_services, publisher, publisher_from,
};
#[cfg(not(target_family = "wasm"))]
pub use self::dns::{DnsDiscovery, DnsDiscoveryError};
pub use self::endpoint::{AdvertisedState, Endpoint};
#[cfg(not(target_family = "wasm"))]
pub use self::file::FileDiscovery;
pub use self::instance::{Instance, InstanceError};
pub use self::keep_registered::{RegistrationState, keep_registered, keep_registered_with};
pub use self::memory::{MemoryDiscovery, MemoryLease, MemoryRegistrar, MemoryRegistry};
pub use self::registrar::{Registered, Registrar, RegistrarError, RegistrarErrorKind, Renewal};
#[cfg(all(feature = "dns-srv", not(target_family = "wasm")))]
pub use self::srv::{SrvDiscovery, SrvDiscoveryError};
pub use self::static_list::StaticList;
