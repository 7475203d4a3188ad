//! The registry's HTTP interface, over sockets and in paused time.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod instances;
mod namesakes;
mod security;
mod shares;
mod simple;
mod snapshot;
mod support;
mod time;
mod watch;
