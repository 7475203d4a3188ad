//! One suite of behaviours for every kind of registry.
//!
//! [`behaviours`] and [`outages`] hold the suite; a registry is tested by an `impl` of [`place::Place`] and
//! one line of `test_place!`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod behaviours;
mod etcd;
mod gate;
mod http;
mod memory;
mod outages;
mod place;
mod watcher;
