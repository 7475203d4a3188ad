//! Streaming calls, against a server that a test controls message by message.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

#[path = "../support/mod.rs"]
#[macro_use]
mod support;
mod peer;

mod ends;
mod failover;
mod far;
mod items;
mod layers;
mod leaks;
mod resume;
mod served;
mod time;
