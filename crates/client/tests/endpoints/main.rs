//! Channels over many endpoints, with real servers: balancing, failures, and errors without an endpoint.

#![allow(unreachable_pub, reason = "what tests share is public to them")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod balance;
mod broadcast;
mod chaos;
mod dialing;
mod failing;
mod health;
mod hedging;
mod lists;
mod once;
mod overview;
mod places;
mod scale;
mod subset;
mod support;
