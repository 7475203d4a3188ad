//! Registering farcall servers in etcd, and finding them there.
//!
//! Where one registry is not enough, servers and clients can point at an etcd cluster, 3.4 or later:
//! an [`EtcdRegistrar`] keeps a server's instances there, and an [`EtcdDiscovery`] follows those of a
//! service. Both speak to the JSON gateway that every etcd has on its clients' port.
//!
//! ```
//! use farcall_discovery::{Instance, keep_registered, publisher, Discovery};
//! use farcall_etcd::{EtcdOptions, EtcdDiscovery, EtcdRegistrar};
//! use farcall_transport::Address;
//!
//! # async fn example(stop: std::future::Ready<()>) -> Result<(), Box<dyn std::error::Error>> {
//! let config = EtcdOptions::new("http://10.0.0.1:2379,http://10.0.0.2:2379")?;
//!
//! // A server:
//! let instance = Instance::new("Arith", Address::parse("tcp@10.0.0.5:7001")?);
//! tokio::spawn(keep_registered(EtcdRegistrar::new(&config)?, instance, stop));
//!
//! // A client:
//! let (publisher, mut found) = publisher();
//! tokio::spawn(EtcdDiscovery::new(&config, "Arith")?.run(publisher));
//! found.changed().await?;
//! println!("{} servers", found.borrow().endpoints.len());
//! # Ok(())
//! # }
//! ```
//!
//! # What is in etcd
//!
//! An instance is the key `/farcall/v1/{service}/{id}`, its value an
//! [`Instance`](farcall_discovery::Instance) as JSON. The service `""` is written `~`. In ids, all
//! characters but ASCII letters, digits and `. _ - @ : [ ]` are percent-encoded as UTF-8, so that an
//! id is one segment of the key: `unix@/run/a.sock` is `unix@%2Frun%2Fa.sock`. The key is attached to a
//! lease of 15 s that is renewed every 5 s; a server that stops revokes it, and one that crashed is gone
//! when it expires.
//!
//! Unlike the registry, etcd has no overrides: [`EtcdAdmin`] drains an instance by writing its key, which lasts until the
//! server registers again. Nothing holds back a mass expiry, and an etcd that comes back without its data is a list that is empty until the
//! servers have registered again.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod admin;
mod call_error;
mod client;
mod discovery;
mod endpoints;
mod error;
mod keys;
mod limits;
mod listing;
mod options;
mod registrar;
mod tls;
mod watch;
mod wire;

pub use self::admin::{EtcdAdmin, EtcdAdminError};
pub use self::discovery::EtcdDiscovery;
pub use self::error::{EndpointErrorKind, EtcdOptionsError};
pub use self::options::EtcdOptions;
pub use self::registrar::{EtcdLease, EtcdRegistrar};
