//! The demo: a cluster of farcall servers on one machine, and a job that uses it.
//!
//! `demo` starts a registry and three servers, counts the words of many files by calling them while
//! one is killed, another started and a third drained, compares the answers with a local count,
//! and prints a report. `demo server` runs one server, `demo registry` the registry. The services of the
//! servers are in [`services`]:
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
mod disruptions;
mod external;
mod http;
mod input;
mod job;
mod name_server;
mod outcome;
mod parent;
mod pieces;
mod progress;
mod registry;
mod registry_url;
mod report;
mod run;
mod server;
pub mod services;
mod signals;
mod source;
mod watch;

pub use self::run::run;
