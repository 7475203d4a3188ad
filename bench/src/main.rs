//! farcall beside its peers and the raw limit, in one run: `cargo run --release -- compare`; what it costs at
//! rest and at a fixed rate: `idle`, `latency-under-load`; streams: `streams`; the command `farcall bench`: `command`; and the registry
//! at scale: `registry`. `cargo bench` measures parts, and the package in `instructions` counts what a call takes.
//!
//! Every measurement is two processes of this program, a server and a client, over loopback. Rounds
//! are interleaved, so that a machine that changes its mind does so for all alike.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::{self, Runtime};

use crate::peers::Peer;

mod chart;
mod client;
mod command;
mod compare;
mod idle;
mod load;
mod measured;
mod pace;
mod peers;
mod pick;
mod process;
mod ratios;
mod record;
mod registry;
mod report;
mod scenario;
mod streams;
mod under_load;

#[derive(Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// Measures peers in scenarios, several rounds of each, and prints medians and ratios.
    Compare(compare::Compare),
    /// Measures the command `farcall bench` beside this program, at the same server.
    Command(command::OfCommand),
    /// Measures the memory of idle connections, of server and client.
    Idle(idle::Idle),
    /// Measures what calls take that come at a fixed rate.
    LatencyUnderLoad(under_load::UnderLoad),
    /// Measures what choosing an endpoint costs, for each balancer.
    Pick(pick::Pick),
    /// Measures the registry: heartbeats, watchers, lists, memory.
    Registry(registry::LoadOptions),
    /// Measures streams: items a second, beside others that are not read, and what calls take beside them.
    Streams(streams::Streams),
    /// Serves as the registry (used by `registry`).
    #[command(hide = true)]
    ServeRegistry {
        #[arg(long)]
        snapshot: PathBuf,
    },
    /// Serves as one peer (used by the others).
    #[command(hide = true)]
    Serve(Serve),
    /// Measures one peer in one scenario against a server (used by `compare`).
    #[command(hide = true)]
    Load(compare::Load),
    /// Serves streams (used by `streams`).
    #[command(hide = true)]
    ServeStreams(streams::ServeStreams),
    /// Takes streams of a server (used by `streams`).
    #[command(hide = true)]
    TakeStreams(streams::take::Take),
    /// Holds connections to a server (used by `idle`).
    #[command(hide = true)]
    Hold(idle::Holder),
    /// Calls a server at a fixed rate (used by `latency-under-load`).
    #[command(hide = true)]
    Pace(pace::Pace),
}

#[derive(Args)]
struct Serve {
    #[arg(long)]
    peer: Peer,
    /// Directory for its files; the caller removes them.
    #[arg(long)]
    directory: PathBuf,
}

/// The workers of a runtime, where there are as many cores: two processes share the machine.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Commands::Compare(compare) => compare::run(&compare),
        Commands::Command(options) => command::run(&options),
        Commands::Idle(idle) => idle::run(&idle),
        Commands::LatencyUnderLoad(options) => under_load::run(&options),
        Commands::Pick(pick) => pick::run(&pick),
        Commands::Registry(options) => registry::run(&options),
        Commands::Streams(options) => streams::run(&options),
        Commands::ServeStreams(serve) => multi_thread().and_then(|runtime| runtime.block_on(serve.run())),
        Commands::TakeStreams(take) => multi_thread().and_then(|runtime| runtime.block_on(take.run())),
        Commands::ServeRegistry { snapshot } => {
            multi_thread().and_then(|runtime| runtime.block_on(registry::serve(&snapshot)))
        }
        Commands::Serve(Serve { peer, directory }) => {
            process::raise_open_files().and_then(|_| runtime(peer)?.block_on(peer.serve(&directory)))
        }
        Commands::Load(load) => runtime(load.peer).and_then(|runtime| runtime.block_on(compare::load(&load))),
        Commands::Hold(holder) => process::raise_open_files()
            .and_then(|_| runtime(holder.peer)?.block_on(idle::run_holder(&holder))),
        Commands::Pace(pace) => {
            process::raise_open_files().and_then(|_| runtime(pace.peer)?.block_on(pace::run(&pace)))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn runtime(peer: Peer) -> anyhow::Result<Runtime> {
    if peer.is_current_thread() {
        return Ok(runtime::Builder::new_current_thread().enable_all().build()?);
    }
    multi_thread()
}

fn multi_thread() -> anyhow::Result<Runtime> {
    // Held to one core, one worker: as the runtime would have it by itself.
    let workers = std::thread::available_parallelism().map_or(WORKERS, |cores| WORKERS.min(cores.get()));
    Ok(runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?)
}
