//! The client against registries that answer what a test tells them to, byte for byte.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod hostile;
mod kept;
mod polling;
mod real;
mod registrar;
mod tls;
mod told;
mod watching;
