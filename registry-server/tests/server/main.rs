//! The registry as a process: settings, output, signals, and its page in a browser.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod hostile;
mod page;
mod process;
mod readme;
mod settings;
mod support;
mod tls;
mod tokens;
