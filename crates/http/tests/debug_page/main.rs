//! `/debug/farcall`: who may see it, what it answers, and how it looks and lives in a browser.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod page;
mod served;
mod snapshot;
#[path = "../support/mod.rs"]
mod support;
