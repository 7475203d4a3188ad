//! Runs the command line to an exit code, which [`crate::outcome`] determines.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use farcall::transport::log::install_panic_hook;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::outcome::Outcome;
use crate::{external, job, name_server, registry, server};

/// The default log filter, without `RUST_LOG`: warnings, and the progress of the demo.
const LOG_FILTER: &str = "warn,demo=info";
/// The time by which blocked threads, such as one that reads from a dead network mount, may delay the
/// exit.
const RUNTIME_STOP_LIMIT: Duration = Duration::from_millis(200);

/// Runs the demo with the arguments of its command line. An invalid argument ends the process.
pub fn run() -> ExitCode {
    // First: a panic's message may contain what a peer has sent.
    install_panic_hook();
    let cli = Cli::parse();
    log_to_stderr();
    let outcome = start(cli).unwrap_or_else(|error| Outcome::from(&error));
    outcome.report()
}

fn start(cli: Cli) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Some(Command::Server(args)) => server::serve(args).await,
            Some(Command::Registry(args)) => registry::serve(args).await,
            Some(Command::Etcd(args)) => external::keep_etcd(args).await,
            Some(Command::Zookeeper(args)) => external::keep_zookeeper(args).await,
            Some(Command::Srv(args)) => name_server::serve(args).await,
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
        // A log that cannot be written is no reason to stop: telling so on stderr would panic.
        .log_internal_errors(false)
        .init();
}
