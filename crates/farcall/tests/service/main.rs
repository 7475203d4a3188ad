//! Services made by `#[farcall::service]`, called through the clients made with them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod arguments;
mod borrowing;
mod context;
mod description;
mod overload;
mod results;
mod running;
mod schema;
mod sharing;
mod statuses;
mod streams;
mod stubs;
mod values;
