//! One suite of behaviours for every place where servers register and clients find them.
//!
//! [`behaviours`] says what must hold anywhere; a place is made testable by [`place::Place`] and one
//! line of `test_place!`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod behaviours;
mod etcd;
mod gate;
mod http;
mod memory;
mod outages;
mod place;
mod watcher;
