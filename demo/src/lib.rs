//! The demo: a cluster of farcall servers on one machine, and a job that uses it.
//!
//! `demo` starts a registry and three servers, counts the words of many files by calling them while
//! one is killed, another started and a third drained, compares the answers with a count of its own,
//! and reports. `demo server` is one server alone, `demo registry` the registry. What the servers
//! offer is in [`services`]:
//!
//! ```no_run
//! use demo::services::ArithClient;
//! use farcall::Channel;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let arith = ArithClient::new(Channel::to("tcp@127.0.0.1:7001")?);
//! assert_eq!(arith.multiply(6, 7).await?, 42);
//! # Ok(())
//! # }
//! ```

mod cli;
mod cluster;
mod count;
mod http;
mod input;
mod job;
mod orphan;
mod outcome;
mod progress;
mod registry;
mod report;
mod run;
mod server;
pub mod services;
mod signals;
mod source;
mod story;

pub use self::run::run;
