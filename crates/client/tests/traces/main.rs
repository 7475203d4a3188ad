//! Spans and trace context, without a tracing system.

#![allow(unreachable_pub, reason = "what tests share is public to them")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod processes;
mod spans;
mod support;
