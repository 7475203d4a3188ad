//! Fuzz targets: functions that take any bytes, give them to a parser or to a whole session, and panic if a promise is
//! broken. [`TARGETS`] lists them.
//!
//! They are run by libFuzzer in `fuzz/`, which is a workspace apart, and by [`replay`], which needs nothing: it gives each
//! target its seeds, the inputs that are kept in `fuzz/corpus`, and mutations of both.
//!
//! ```
//! let target = farcall_fuzz_targets::find("address").unwrap();
//! (target.run)(b"tcp@[::1]:7001");
//! ```

#![allow(clippy::unwrap_used, reason = "a promise that is broken ends the program")]

mod address;
mod client_session;
mod discovery;
mod gateway;
mod handshake;
mod http_opening;
mod input;
mod message;
mod pipes;
mod registry;
mod registry_http;
pub mod replay;
mod schema;
mod seeds;
mod server_session;
mod service;
mod stream_table;
mod target;
mod values;

pub use self::target::{TARGETS, Target, find};
