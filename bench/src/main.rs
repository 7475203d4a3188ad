//! farcall beside its peers and the raw limit, in one run: `cargo run --release -- compare`; and the
//! registry at scale: `cargo run --release -- registry`.
//!
//! Every measurement is two processes of this program, a server and a client, over loopback TCP.
//! Rounds are interleaved, so that a machine that changes its mind does so for all alike.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::{self, Runtime};

use crate::load::{Figures, Meter, measure};
use crate::peers::Peer;
use crate::process::{ServerProcess, peak_kb};
use crate::scenario::Scenario;

mod load;
mod peers;
mod pick;
mod process;
mod registry;
mod report;
mod scenario;

#[derive(Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// Measures peers in scenarios, several rounds of each, and prints medians and ratios.
    Compare(Compare),
    /// Measures what choosing an endpoint costs, for each balancer.
    Pick(pick::Pick),
    /// Measures the registry: heartbeats, watchers, lists, memory.
    Registry(registry::Options),
    /// Serves as the registry (used by `registry`).
    #[command(hide = true)]
    ServeRegistry {
        #[arg(long)]
        snapshot: PathBuf,
    },
    /// Serves as one peer (used by `compare`).
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        peer: Peer,
    },
    /// Measures one peer in one scenario against a server (used by `compare`).
    #[command(hide = true)]
    Load(Load),
}

#[derive(Args)]
struct Compare {
    /// The peers to measure, separated by commas; all if left out.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// The scenarios, separated by commas; all if left out.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The measured time of each round, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    ms: u64,
    /// Prints one JSON object a line for each measurement instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Load {
    #[arg(long)]
    peer: Peer,
    #[arg(long)]
    scenario: Scenario,
    #[arg(long)]
    address: String,
    #[arg(long)]
    server: u32,
    #[arg(long)]
    ms: u64,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Commands::Compare(compare) => run_compare(&compare),
        Commands::Pick(pick) => pick::run(&pick),
        Commands::Registry(options) => registry::run(&options),
        Commands::ServeRegistry { snapshot } => {
            multi_thread().and_then(|runtime| runtime.block_on(registry::serve(&snapshot)))
        }
        Commands::Serve { peer } => runtime(peer).and_then(|runtime| runtime.block_on(peer.serve())),
        Commands::Load(load) => runtime(load.peer).and_then(|runtime| runtime.block_on(run_load(&load))),
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
    Ok(runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

async fn run_load(load: &Load) -> anyhow::Result<()> {
    let meter = Arc::new(Meter::default());
    let loops = load.peer.start(&load.address, load.scenario, &meter).await?;
    let (warm_up, time) = (Duration::from_millis(load.ms / 3), Duration::from_millis(load.ms));
    let (calls_per_s, latencies, cpu_us) = measure(meter, loops, warm_up, time, load.server).await?;
    let percentile = |percent| latencies.value_at_percentile(percent) as f64 / 1000.0;
    let figures = Figures {
        peer: load.peer.to_string(),
        scenario: load.scenario.to_string(),
        calls_per_s,
        p50_us: percentile(50.0),
        p99_us: percentile(99.0),
        cpu_us,
        rss_kb: peak_kb(std::process::id())?.max(peak_kb(load.server)?),
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

fn run_compare(compare: &Compare) -> anyhow::Result<()> {
    let peers = if compare.peers.is_empty() { Peer::ALL } else { &compare.peers };
    let scenarios = if compare.scenarios.is_empty() { Scenario::ALL } else { &compare.scenarios };
    let bar = progress((peers.len() * scenarios.len() * compare.rounds) as u64);
    let mut all = Vec::new();
    for round in 0..compare.rounds {
        for scenario in scenarios {
            for peer in peers {
                bar.set_message(format!("round {}, {scenario}, {peer}", round + 1));
                let figures = measure_once(*peer, *scenario, compare.ms)
                    .with_context(|| format!("{peer} in {scenario}"))?;
                if compare.json {
                    bar.suspend(|| println!("{}", serde_json::to_string(&figures).unwrap_or_default()));
                }
                all.push(figures);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    if !compare.json {
        report::print(&all, peers, scenarios);
    }
    Ok(())
}

/// A bar on a terminal; nothing elsewhere.
fn progress(steps: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").expect("the template is legal");
    ProgressBar::new(steps).with_style(style)
}

/// One measurement, in two fresh processes.
fn measure_once(peer: Peer, scenario: Scenario, ms: u64) -> anyhow::Result<Figures> {
    let server = ServerProcess::start(&["serve", "--peer", peer.name()])?;
    let output = Command::new(std::env::current_exe()?)
        .args(["load", "--peer", peer.name(), "--scenario", scenario.name])
        .args(["--address", &server.address, "--server", &server.pid().to_string(), "--ms", &ms.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the client ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}
