//! `/debug/farcall`: access, content, and the page in a browser.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod page;
mod served;
mod snapshot;
mod streams;
#[path = "../support/mod.rs"]
mod support;
