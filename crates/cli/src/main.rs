//! The command `farcall`: lists, describes, calls, measures, watches and checks servers, which describe themselves.
//!
//! `main` only parses the command line and turns the outcome into an exit code; each command has its own module in
//! [`commands`]. `docs/CLI.md` is the manual.

mod check;
mod cli;
mod commands;
mod diagnose;
mod environment;
mod exit;
mod failure;
mod files;
mod methods;
mod output;
mod schema;
mod session;
mod targets;
mod time;
mod value;

use std::process::ExitCode;

use clap::Parser as _;

use self::cli::Cli;
use self::environment::Environment;
use self::failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::local(format!("no runtime: {error}")).print(),
    };
    let code = runtime.block_on(run(cli));
    // A thread that reads standard input cannot be stopped, and must not keep the program.
    runtime.shutdown_background();
    code
}

/// Runs the command until it ends, or until Ctrl-C ends it.
async fn run(cli: Cli) -> ExitCode {
    let environment = Environment::default();
    let outcome = if cli.command.ends_itself() {
        commands::run(cli.command, &environment).await
    } else {
        tokio::select! {
            outcome = commands::run(cli.command, &environment) => outcome,
            // The other arm is dropped, which cancels its calls.
            () = environment::interrupted() => Err(Failure::interrupted(environment.items())),
        }
    };
    environment.close().await;
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.print(),
    }
}
