//! What the registry promises when things fail, done to real processes: registries, servers and the
//! kernel's signals. A module for each promise; the client is in here.
//!
//! What has a limit in time may be measured several times: a machine that is busy elsewhere is late
//! now and then, and what is broken is late each time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod http;
mod killed_server;
mod load;
mod mass_expiry;
mod nonsense;
mod processes;
mod registry_restart;
mod rolling_restarts;
mod seen;
mod several_registries;
mod stopped_servers;
#[path = "../support/mod.rs"]
mod support;
mod unreachable_registry;
