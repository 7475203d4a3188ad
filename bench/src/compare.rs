//! `compare`: measures peers in scenarios, in several rounds, and prints the results.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::load::{Figures, Meter, measure, percentile_us};
use crate::measured::Measured;
use crate::peers::{Peer, go};
use crate::process::{OneCore, ServerProcess, peak_kb, this_program};
use crate::ratios::Idle;
use crate::scenario::Scenario;
use crate::{chart, idle, ratios, report};

/// The time limit of connecting, longer than any successful attempt takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Args)]
pub(crate) struct Compare {
    /// Measures only what the target ratios need, and TLS, Unix sockets and HTTP, in shorter rounds.
    #[arg(long)]
    quick: bool,
    /// The peers to measure, separated by commas; all if left out.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// The scenarios, separated by commas; all if left out.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Number of measurements of each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The measured time of each round, in milliseconds; 1000 if left out, 600 if quick.
    #[arg(long)]
    ms: Option<u64>,
    /// Prints one JSON object a line for each measurement instead of tables.
    #[arg(long)]
    json: bool,
    /// Draws calls a second into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Measures nothing, and shows the results that `--json` printed into this file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "peers", "scenarios", "rounds", "json"])]
    from: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Load {
    #[arg(long)]
    pub(crate) peer: Peer,
    #[arg(long)]
    scenario: Scenario,
    #[arg(long)]
    address: String,
    #[arg(long)]
    server: u32,
    #[arg(long)]
    ms: u64,
}

pub(crate) fn run(compare: &Compare) -> anyhow::Result<()> {
    if let Some(file) = &compare.from {
        let all = read(file)?;
        draw(compare, &all)?;
        report::print_tables(&all);
        ratios::print(&all, None);
        return Ok(());
    }
    let began = Instant::now();
    let go = go::Program::build().inspect_err(|error| eprintln!("without Go: {error:#}")).ok();
    let mut plan = plan(compare);
    plan.retain(|(_, peer)| go.is_some() || !peer.is_go());
    ensure!(!plan.is_empty(), "there is nothing to measure: no such peer takes any of these scenarios");
    let ms = compare.ms.unwrap_or(if compare.quick { 600 } else { 1000 });
    let progress = Progress::new(plan.len() * compare.rounds);
    let (mut all, mut failed) = (Vec::new(), 0);
    for round in 0..compare.rounds {
        let mut last = None;
        for (scenario, peer) in &plan {
            let first = last.replace(scenario) != Some(scenario);
            progress.is_at(format!("round {} of {}, {scenario}", round + 1, compare.rounds), *peer, first);
            match measure_once(*peer, *scenario, ms, go.as_ref()) {
                Ok(figures) => {
                    if compare.json {
                        let line = serde_json::to_string(&figures)?;
                        progress.bar.suspend(|| println!("{line}"));
                    }
                    all.push(Measured { round, figures });
                }
                // The other measurements are still valid.
                Err(error) => {
                    failed += 1;
                    progress.bar.suspend(|| eprintln!("{peer} in {scenario}: {error:#}"));
                }
            }
            progress.bar.inc(1);
        }
    }
    // Not with a selection of scenarios.
    let farcall = plan.iter().any(|(_, peer)| *peer == Peer::Farcall) && compare.scenarios.is_empty();
    let idle = if farcall && !compare.json {
        progress.is_at("idle connections".to_owned(), Peer::Farcall, true);
        let held = idle::hold(Peer::Farcall, idle::CONNECTIONS);
        held.inspect_err(|error| eprintln!("idle connections: {error:#}")).ok()
    } else {
        None
    };
    progress.bar.finish_and_clear();
    draw(compare, &all)?;
    if !compare.json {
        report::print(&all, compare.rounds, ms);
        let idle = idle.map(|held| Idle {
            connections: held.connections,
            server_kb: held.server_kb,
            client_kb_each: held.client_kb_each(),
        });
        ratios::print(&all, idle.as_ref());
        println!("\nmeasured in {} s", began.elapsed().as_secs());
    }
    ensure!(failed == 0, "{failed} measurements failed");
    Ok(())
}

/// Reads the output of `--json`: each round has a scenario of a peer once.
fn read(file: &Path) -> anyhow::Result<Vec<Measured>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut all: Vec<Measured> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let figures: Figures =
            serde_json::from_str(line).with_context(|| format!("{}, line {}", file.display(), index + 1))?;
        let is_same =
            |one: &&Measured| one.figures.peer == figures.peer && one.figures.scenario == figures.scenario;
        let round = all.iter().filter(is_same).count();
        all.push(Measured { round, figures });
    }
    Ok(all)
}

fn draw(compare: &Compare, all: &[Measured]) -> anyhow::Result<()> {
    let Some(path) = &compare.chart else { return Ok(()) };
    fs::write(path, chart::draw(all)).with_context(|| format!("writing {}", path.display()))
}

/// Returns the measurements of a round, ordered by scenario.
fn plan(compare: &Compare) -> Vec<(Scenario, Peer)> {
    let wanted = |scenario: &Scenario, peer: Peer| {
        (compare.peers.is_empty() || compare.peers.contains(&peer))
            && (compare.scenarios.is_empty() || compare.scenarios.contains(scenario))
            && (!compare.quick || ratios::is_quick(peer, scenario.name))
            && peer.takes(scenario)
    };
    let peers = |scenario: &Scenario| {
        let scenario = *scenario;
        let peers = Peer::ALL.iter().copied().filter(move |peer| wanted(&scenario, *peer));
        peers.map(move |peer| (scenario, peer)).collect::<Vec<_>>()
    };
    Scenario::ALL.iter().flat_map(peers).collect()
}

/// A bar on a terminal; elsewhere a line for each scenario of a round.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new(steps: usize) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let template = "{bar:30} {pos}/{len}, {eta} left: {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is legal");
        Self { bar: ProgressBar::new(steps as u64).with_style(style) }
    }

    fn is_at(&self, place: String, peer: Peer, first: bool) {
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{place}, {peer}"));
        } else if first {
            eprintln!("{place}");
        }
    }
}

/// Makes one measurement, in two new processes.
fn measure_once(
    peer: Peer,
    scenario: Scenario,
    ms: u64,
    go: Option<&go::Program>,
) -> anyhow::Result<Figures> {
    let directory = tempfile::tempdir()?;
    let held = if scenario.one_core { Some(OneCore::hold()?) } else { None };
    let serving = match go.filter(|_| peer.is_go()) {
        Some(program) => program.serving(peer),
        None => {
            let mut command = this_program(&["serve", "--peer", peer.name(), "--directory"])?;
            command.arg(directory.path());
            command
        }
    };
    let server = ServerProcess::run(serving)?;
    let mut loading = match go.filter(|_| peer.is_go()) {
        Some(program) => program.loading(peer, scenario, &server.address, server.pid(), ms),
        None => this_program(&[
            "load",
            "--peer",
            peer.name(),
            "--scenario",
            scenario.name,
            "--address",
            &server.address,
            "--server",
            &server.pid().to_string(),
            "--ms",
            &ms.to_string(),
        ])?,
    };
    let output = loading.stderr(Stdio::inherit()).output()?;
    drop(held);
    ensure!(output.status.success(), "the client ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs the client's side of a measurement, in a separate process.
pub(crate) async fn load(load: &Load) -> anyhow::Result<()> {
    let meter = Arc::new(Meter::default());
    let starting = load.peer.start(&load.address, load.scenario, &meter);
    let loops =
        tokio::time::timeout(CONNECT_TIMEOUT, starting).await.context("the server did not let it in")??;
    let (warm_up, time) = (Duration::from_millis(load.ms / 3), Duration::from_millis(load.ms));
    let (calls_per_s, latencies, cpu_us) = measure(meter, loops, warm_up, time, load.server).await?;
    let figures = Figures {
        peer: load.peer.to_string(),
        scenario: load.scenario.to_string(),
        calls_per_s,
        p50_us: percentile_us(&latencies, 50.0),
        p99_us: percentile_us(&latencies, 99.0),
        cpu_us,
        rss_kb: peak_kb(std::process::id())?.max(peak_kb(load.server)?),
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
