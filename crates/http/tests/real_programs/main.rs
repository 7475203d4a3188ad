//! Real programs from the system's packages: nginx and HAProxy as reverse proxies, tinyproxy as a forward
//! proxy, and curl, openssl, promtool and openapi-spec-validator as clients.
//!
//! Each test starts its programs on a loopback port with a temporary directory, and stops them at its end.
//! The configurations are those that `docs/HTTP.md` shows.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod authority;
mod document;
mod forward_proxy;
mod openapi;
mod pages;
mod program;
mod reverse_proxies;
#[path = "../support/mod.rs"]
mod support;
mod tls;
