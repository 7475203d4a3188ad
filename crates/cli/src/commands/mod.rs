//! The commands, one module each.

pub(crate) mod call;
pub(crate) mod describe;
pub(crate) mod ls;

use std::process::ExitCode;

use crate::cli::Command;
use crate::environment::Environment;
use crate::failure::Failure;

/// Runs a command.
pub(crate) async fn run(command: Command, environment: &Environment) -> Result<ExitCode, Failure> {
    match command {
        Command::Ls(args) => ls::run(args, environment).await,
        Command::Describe(args) => describe::run(args, environment).await,
        Command::Call(args) => call::run(args, environment).await,
    }
}
