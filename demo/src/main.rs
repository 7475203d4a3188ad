//! The demo: a cluster of farcall servers on one machine, and a job that uses it.

use std::process::ExitCode;

fn main() -> ExitCode {
    demo::run()
}
