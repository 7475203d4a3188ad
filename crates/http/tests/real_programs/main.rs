//! Programs that farcall meets in the field, as the system's packages have them: nginx and HAProxy before a
//! server, tinyproxy before a client, curl, openssl and promtool as those who ask.
//!
//! Each is started by its test on a port of this machine, with its own files, and ends with it. The
//! configurations are the ones that `docs/HTTP.md` shows.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod authority;
mod document;
mod forward_proxy;
mod pages;
mod program;
mod reverse_proxies;
#[path = "../support/mod.rs"]
mod support;
mod tls;
