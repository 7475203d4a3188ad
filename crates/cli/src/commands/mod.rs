//! The commands, one module each.

pub(crate) mod bench;
pub(crate) mod call;
pub(crate) mod complete;
pub(crate) mod completions;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod new;
pub(crate) mod ping;
pub(crate) mod registry;
pub(crate) mod schema;
pub(crate) mod template;
pub(crate) mod top;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::environment::Environment;
use crate::failure::Failure;

/// Runs a command.
pub(crate) async fn run(command: Command, environment: &Environment) -> Result<ExitCode, Failure> {
    match command {
        Command::Ls(args) => ls::run(args, environment).await,
        Command::Describe(args) => describe::run(args, environment).await,
        Command::Call(args) => call::run(args, environment).await,
        Command::Ping(args) => ping::run(args, environment).await,
        Command::Health(args) => health::run(args, environment).await,
        Command::Doctor(args) => doctor::run(args, environment).await,
        Command::Registry(args) => registry::run(args).await,
        Command::Schema(args) => schema::run(args, environment).await,
        Command::Template(args) => template::run(args, environment).await,
        Command::Top(args) => top::run(args, environment).await,
        Command::CompleteWords(args) => complete::run::<Cli>(&args).await,
        Command::Completions(args) => completions::run::<Cli>(&args),
        Command::Man(args) => man::run::<Cli>(&args),
        Command::New(args) => new::run(&args),
        Command::Bench(args) => bench::run(args, environment).await,
    }
}
