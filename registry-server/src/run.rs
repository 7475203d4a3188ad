//! The program: from what was typed to the exit code.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::config::Config;
use crate::failure::Failure;
use crate::logging;
use crate::options::Cli;
use crate::server::Server;

/// Runs the registry until a signal ends it. `args` are those of the command line, the program's own
/// name first. Whatever fails is one line on stderr, and a code that `--help` explains.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        // Asking for help comes this way, too, with a code of 0.
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // Where nobody reads it, there is nobody to tell.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    match Config::from_cli(cli).and_then(run_with) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            drop(writeln!(io::stderr(), "registry-server: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run_with(config: Config) -> Result<(), Failure> {
    logging::start(config.log_format);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        let signals = Signals::catch().map_err(|error| Failure::Other(format!("signals: {error}")))?;
        let server = Server::bind(config).await?;
        announce(&server);
        server.warn_if_open();
        let stop = signals.stop(server.reload_now());
        server.serve(stop).await
    });
    // A look at a file on a disk that hangs must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// Says where it listens, for scripts and people that started it with port 0.
fn announce(server: &Server) {
    let mut stdout = io::stdout().lock();
    for url in server.urls() {
        // Whoever started it may have closed the pipe: no reason to end.
        drop(writeln!(stdout, "listening {url}"));
        info!(version = env!("CARGO_PKG_VERSION"), url, "listening");
    }
    drop(stdout.flush());
}

/// The signals that it knows, caught from the moment this is made.
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

    /// Ready when it is to end; passes SIGHUP on meanwhile.
    async fn stop(mut self, reload: Arc<Notify>) {
        let signal = loop {
            tokio::select! {
                // All are cancel-safe: a signal that was not taken is there for the next turn.
                _ = self.interrupt.recv() => break "SIGINT",
                _ = self.terminate.recv() => break "SIGTERM",
                _ = self.hang_up.recv() => reload.notify_one(),
            }
        };
        info!(signal, "ending");
    }
}

/// Each watcher is a file to the kernel, and many systems allow 1024 unless asked for more.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || (limit.current.is_some() && limit.maximum.is_none()) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warn!(%error, ?limit, "the limit of open files stays");
        }
    }
}
