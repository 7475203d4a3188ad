//! What was typed, run to an exit code. What the code means is for [`crate::outcome`].

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::outcome::Outcome;
use crate::{job, registry, server};

/// What is logged unless `RUST_LOG` says otherwise: what a person has to know.
const LOG_FILTER: &str = "warn,demo=info";
/// How long threads that do not end, such as one that reads a file from a dead network mount, may
/// hold up the exit.
const RUNTIME_STOP_LIMIT: Duration = Duration::from_millis(200);

/// Runs the demo as its command line says. A mistake in the command line ends the process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    let outcome = start(cli).unwrap_or_else(|error| Outcome::from(&error));
    outcome.tell()
}

fn start(cli: Cli) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Some(Command::Server(args)) => server::serve(args).await,
            Some(Command::Registry(args)) => registry::serve(args).await,
            Some(Command::Etcd(args)) => registry::keep_etcd(args).await,
            None => job::run(cli.job).await,
        }
    });
    runtime.shutdown_timeout(RUNTIME_STOP_LIMIT);
    outcome
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG_FILTER));
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal() && !no_color)
        .with_writer(io::stderr)
        .init();
}
