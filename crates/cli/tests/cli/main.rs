//! The command as a process, against servers of this process: output, error output, exit code.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attempts;
mod benches;
mod calls;
mod checks;
mod completing;
mod documents;
mod places;
mod projects;
mod registries;
mod schemes;
mod stalls;
mod streams;
mod support;
mod tops;
mod types;
