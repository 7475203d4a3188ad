//! The JSON gateway, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod browsers;
mod calls;
mod chromium;
mod credentials;
mod curl;
mod feed;
mod limits;
mod listing;
mod stream_uploads;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod world;
