//! The client against registries that answer with the bytes that a test sets.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod fake_registry;
mod hostile;
mod keep_alive;
mod polling;
mod real;
mod registrar;
mod tls;
mod watching;
