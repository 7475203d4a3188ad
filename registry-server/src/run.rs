//! [`run`]: the program, from the command line to the exit code.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use farcall_transport::log::install_panic_hook;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::config::Config;
use crate::error::ServerError;
use crate::logging;
use crate::options::Cli;
use crate::server::Server;

/// The number of tasks that a thread runs before it looks for requests that have come, while it has something to do. A request takes
/// about 100 µs, and those of a few busy clients come one after the other: with tokio's default of 61, each request of others
/// waited for 6 ms.
const EVENT_INTERVAL: u32 = 4;

/// Runs the registry until a signal stops it, and returns the exit code, which `--help` explains. `args` are those of the
/// command line, with the program's name first. An error is one line on stderr.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // First: a panic's message may contain what a client has sent.
    install_panic_hook();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        // `--help` and `--version` arrive here as well, with exit code 0.
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // Printing fails only if the output is closed: then there is no place to report it.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    match Config::from_cli(cli).and_then(run_with) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "registry-server: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run_with(config: Config) -> Result<(), ServerError> {
    logging::start(config.log_format);
    raise_file_limit();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        builder.enable_all().event_interval(EVENT_INTERVAL).build().map_err(ServerError::Runtime)?;
    let outcome = runtime.block_on(async {
        let signals = Signals::catch().map_err(ServerError::Signals)?;
        let server = Server::bind(config).await?;
        print_urls(&server);
        server.warn_if_open();
        let stop = signals.stop(server.reload_now());
        server.serve(stop).await
    });
    // A check of a file on a disk that hangs must not delay the exit.
    runtime.shutdown_background();
    outcome
}

/// Prints the listening URLs, for scripts and users that chose port 0.
fn print_urls(server: &Server) {
    let mut stdout = io::stdout().lock();
    for url in server.urls() {
        // A closed pipe is no reason to stop.
        drop(writeln!(stdout, "listening {url}"));
        info!(version = env!("CARGO_PKG_VERSION"), url, "listening");
    }
    drop(stdout.flush());
}

/// The handled signals, which are caught from its creation on.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to stop; forwards SIGHUP meanwhile.
    async fn stop(mut self, reload: Arc<Notify>) {
        let signal = loop {
            tokio::select! {
                // Cancel-safe: a signal that was not received stays pending.
                _ = self.interrupt.recv() => break "SIGINT",
                _ = self.terminate.recv() => break "SIGTERM",
                _ = self.hang_up.recv() => reload.notify_one(),
            }
        };
        info!(signal, "stopping");
    }
}

/// Raises the limit of open files to its maximum: each connection needs one, and many systems allow 1024 by default.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || (limit.current.is_some() && limit.maximum.is_none()) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warn!(%error, ?limit, "the limit of open files cannot be raised");
        }
    }
}
