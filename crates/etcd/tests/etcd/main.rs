//! Registrar and discovery over a real etcd.

#![allow(clippy::unwrap_used, reason = "what fails in a test fails the test")]

mod admin;
mod hostile;
mod many;
mod outages;
mod proxy;
mod registering;
mod security;
mod server;
mod support;
