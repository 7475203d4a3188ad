//! Registering farcall servers in ZooKeeper, and finding them there.
//!
//! A [`ZookeeperRegistrar`] keeps a server's instances in ZooKeeper, 3.6 or later, as ephemeral nodes, and a [`ZookeeperDiscovery`] follows those
//! of a service by a watch. The protocol is left to the crate `zookeeper-client`.
//!
//! ```
//! use farcall_discovery::{Discovery, Instance, keep_registered, publisher};
//! use farcall_transport::Address;
//! use farcall_zookeeper::{ZookeeperDiscovery, ZookeeperOptions, ZookeeperRegistrar};
//!
//! # async fn example(stop: std::future::Ready<()>) -> Result<(), Box<dyn std::error::Error>> {
//! let options = ZookeeperOptions::new("10.0.0.1:2181,10.0.0.2:2181,10.0.0.3:2181")?;
//!
//! // A server:
//! let instance = Instance::new("Arith", Address::parse("tcp@10.0.0.5:7001")?);
//! tokio::spawn(keep_registered(ZookeeperRegistrar::new(&options)?, instance, stop));
//!
//! // A client:
//! let (publisher, mut found) = publisher();
//! tokio::spawn(ZookeeperDiscovery::new(&options, "Arith")?.run(publisher));
//! found.changed().await?;
//! println!("{} servers", found.borrow().endpoints.len());
//! # Ok(())
//! # }
//! ```
//!
//! # What is in ZooKeeper
//!
//! An instance is the ephemeral node `/farcall/v1/{service}/{id}#{number}`, its data an
//! [`Instance`](farcall_discovery::Instance) as JSON. The service `""` is written `~`. In ids, all characters but ASCII letters,
//! digits and `. _ - @ : [ ]` are percent-encoded as UTF-8. The number is that of the registrar, at random, so that two servers with
//! one address have two nodes, and what one of them removes is not the other's. They make one endpoint: the last registered counts.
//! The node of a service is a container, which ZooKeeper removes some time after its last instance.
//!
//! A registrar has one session for all its instances, which it closes with the last one; a server that crashed is gone when its
//! session has expired. A session that is lost, to a partition or a ZooKeeper without its data, means that the server registers
//! again with its next renewal. A server that lives and does not renew, since the task that should is stuck, takes its node
//! away itself.
//!
//! # TLS
//!
//! Connections are not encrypted. `zookeeper-client` has TLS, which is not used here: it builds the C library of `aws-lc-rs` into every program, beside
//! the `ring` of farcall's own TLS; and it takes rustls's provider of the process, which a program with both has to install before
//! anything else, or it panics. Where the network is not trusted, run a tunnel such as `stunnel` next to each process, to
//! ZooKeeper's `secureClientPort`, and name its address on the loopback interface.
//!
//! # Users
//!
//! [`ZookeeperOptions::user`] is the scheme `digest`, which sends the password as it is. With the feature `sasl`,
//! `ZookeeperOptions::sasl_digest` is SASL's DIGEST-MD5, which does not send it. Kerberos (GSSAPI) would need a C library, and is left out.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod call_error;
mod discovery;
mod error;
mod listing;
mod options;
mod paths;
mod registrar;
mod session;

pub use self::discovery::ZookeeperDiscovery;
pub use self::error::ZookeeperOptionsError;
pub use self::options::ZookeeperOptions;
pub use self::registrar::{ZookeeperLease, ZookeeperRegistrar};
