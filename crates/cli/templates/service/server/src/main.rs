//! Serves my-service until SIGTERM or Ctrl-C.

use std::io::{IsTerminal as _, stderr};

use clap::Parser as _;
use farcall::server::shutdown_signal;
use my_service_api::MyService as _;
use my_service_server::greeter::Greeter;
use my_service_server::process::Process;
use my_service_server::settings::Cli;
use tracing::info;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    // The log is on standard error. `RUST_LOG=info,farcall=debug` shows more of it.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .init();

    let settings = cli.settings()?;
    // From here on, a signal is a graceful stop.
    let signal = shutdown_signal()?;
    let service = Greeter::new(settings.words()).into_service();
    let process = Process::bind(service, &settings).await?;
    if let Some(address) = process.address() {
        println!("listening {address}");
    }
    if let Some(address) = process.pages() {
        info!(%address, "serving health checks, metrics and the debug page over HTTP");
    }
    let stop = async {
        let signal = signal.await;
        info!(%signal, "stopping");
    };
    process.serve_until(stop).await;
    info!("stopped");
    Ok(())
}
