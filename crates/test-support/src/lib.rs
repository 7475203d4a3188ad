//! The shared parts of farcall's tests; the services and servers under test stay with their tests.
//!
//! - [`wait`] waits for a condition instead of sleeping, and lets paused time pass;
//! - [`ending`] ends runtimes and connections, so that nothing of them is left;
//! - [`machine`] measures how busy the machine is, for tests of promises in real time;
//! - [`frames`] has a raw connection that speaks the protocol's frames and follows none of its rules;
//! - [`errors`] checks what reports print of errors;
//! - [`extremes`] has the values that every setting has to take;
//! - [`mutator`] makes mistakes in messages, from a seed;
//! - [`pki`] has certificates;
//! - [`http`] speaks HTTP/1.1 by hand, as a client and as a server;
//! - [`loopback`] has addresses and ports of this machine.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use std::sync::atomic::{AtomicBool, Ordering};
//!
//! let ready = AtomicBool::new(true);
//! farcall_test_support::wait::until("the server is ready", || ready.load(Ordering::Relaxed)).await;
//! # }
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]
#![allow(clippy::missing_panics_doc, reason = "a panic is how a test fails")]

pub mod ending;
pub mod errors;
pub mod extremes;
pub mod frames;
pub mod http;
pub mod loopback;
pub mod machine;
pub mod mutator;
pub mod pki;
pub mod wait;
