//! One suite of behaviours for every source of endpoints.
//!
//! [`listing`] holds for every source, [`behaviours`] and [`outages`] for those at which servers register. A source is
//! tested by an `impl` of [`place::Source`] and one line of `test_source!`, a registry by an `impl` of
//! [`place::Place`] in addition and one line of `test_place!`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod behaviours;
mod consul;
mod etcd;
mod file;
mod gate;
mod http;
mod kubernetes;
mod listing;
mod memory;
mod outages;
mod place;
mod srv;
mod watcher;
mod zookeeper;
mod zookeeper_server;
