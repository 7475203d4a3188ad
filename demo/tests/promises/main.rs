//! The registry's promises in the face of failures, tested with real processes and signals. There is a
//! module for each promise; the client runs in this process.
//!
//! Limits of time may be measured several times: a busy machine is late sometimes, a defect every time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

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
