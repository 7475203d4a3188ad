//! Registering farcall servers in Consul, and finding them there.
//!
//! A [`ConsulRegistrar`] keeps a server's instances in an agent, each with a check that it has to renew, and a
//! [`ConsulDiscovery`] follows the instances of a service, by blocking queries. Both speak plain HTTP to the agent of their machine.
//!
//! ```
//! use farcall_consul::{ConsulDiscovery, ConsulOptions, ConsulRegistrar};
//! use farcall_discovery::{Discovery, Instance, keep_registered, publisher};
//! use farcall_transport::Address;
//!
//! # async fn example(stop: std::future::Ready<()>) -> Result<(), Box<dyn std::error::Error>> {
//! let options = ConsulOptions::new("http://127.0.0.1:8500")?;
//!
//! // A server:
//! let instance = Instance::new("Arith", Address::parse("tcp@10.0.0.5:7001")?);
//! tokio::spawn(keep_registered(ConsulRegistrar::new(&options)?, instance, stop));
//!
//! // A client:
//! let (publisher, mut found) = publisher();
//! tokio::spawn(ConsulDiscovery::new(&options, "Arith")?.run(publisher));
//! found.changed().await?;
//! println!("{} servers", found.borrow().endpoints.len());
//! # Ok(())
//! # }
//! ```
//!
//! # What is in Consul
//!
//! | of an instance | in Consul's service |
//! | --- | --- |
//! | service | `Name`; the service `""` is `~` |
//! | address | `Address` and `Port`, for other clients; whole in the metadata `farcall-addr` |
//! | weight | `Weights.Passing`, at least 1; whole in `farcall-weight` |
//! | id, zone, version | `farcall-id`, `farcall-zone`, `farcall-version` |
//! | metadata | `Meta`: keys of letters, digits, `-` and `_`, values of 512 characters at most |
//!
//! The name of an instance in Consul ends with a random number of its registrar, so that two servers with one address are two
//! instances, and what one of them removes is not the other's. They make one endpoint.
//!
//! Its check has a time to live (15 s, renewed every 5 s). A server that stops takes its instance away; one that crashed is
//! critical when that time has passed, gets no more calls, and is removed by Consul a minute later, or two.
//!
//! # What is found
//!
//! Also services that others have registered: with the address of the service or else of its node, and `Weights.Passing` as the weight.
//! An instance with a critical check is left out, with a check that warns it has `Weights.Warning`; and
//! one in maintenance drains.
//!
//! # Tests
//!
//! The tests run against a stand-in for Consul's agent, which was written from Consul's published documentation; the rules
//! that it follows are in one file with their sources. It has not been tried against Consul.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod call_error;
mod client;
mod discovery;
mod entry;
mod error;
mod options;
mod registrar;
mod wire;

pub use self::discovery::ConsulDiscovery;
pub use self::error::ConsulOptionsError;
pub use self::options::ConsulOptions;
pub use self::registrar::{ConsulLease, ConsulRegistrar};
