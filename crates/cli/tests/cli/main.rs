//! The command as a process, against servers of this process: output, error output, exit code.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod calls;
mod schemes;
mod support;
