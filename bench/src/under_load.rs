//! `latency-under-load`: what calls take that come at a fixed rate, whether or not others have ended.
//!
//! A closed loop waits for a slow answer before it asks again, and so leaves out those calls that would have
//! suffered most. Here each call is counted from when it was due, also where it began late. What starts the calls is [`pace`].

use std::process::Stdio;
use std::time::Instant;

use anyhow::ensure;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use crate::measured::median;
use crate::pace::{PERCENTILES, Paced};
use crate::peers::Peer;
use crate::process::{ServerProcess, this_program};

#[derive(Args)]
pub(crate) struct UnderLoad {
    /// The peers to measure, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "farcall,farcall-ct,tarpc-bincode-ct,volo-mux,volo-pool,tonic"
    )]
    peers: Vec<Peer>,
    /// Calls a second, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "5000,20000,50000,100000")]
    rates: Vec<u64>,
    /// Duration of each measurement, in seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Number of measurements of each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Has one call in a hundred burn 5 ms of CPU, which only farcall's servers know how to; figures are of the
    /// others.
    #[arg(long)]
    burn: bool,
    /// Prints one JSON object a line for each measurement instead of tables.
    #[arg(long)]
    json: bool,
}

/// The measurements of a peer at a rate, of which those that failed are left out, by their rounds.
struct Cell {
    peer: Peer,
    rate: u64,
    rounds: Vec<(usize, Paced)>,
}

pub(crate) fn run(options: &UnderLoad) -> anyhow::Result<()> {
    ensure!(options.seconds > 0 && options.rounds > 0, "there is nothing to measure");
    let began = Instant::now();
    let rates = options.rates.iter().flat_map(|rate| options.peers.iter().map(|peer| (*peer, *rate)));
    let mut cells: Vec<_> = rates.map(|(peer, rate)| Cell { peer, rate, rounds: Vec::new() }).collect();
    let mut failed = 0;
    for round in 0..options.rounds {
        for cell in &mut cells {
            match measure_once(cell.peer, cell.rate, options) {
                Ok(paced) => {
                    if options.json {
                        println!("{}", serde_json::to_string(&paced)?);
                    }
                    cell.rounds.push((round, paced));
                }
                // The other measurements are still valid.
                Err(error) => {
                    failed += 1;
                    eprintln!("{} at {} calls a second: {error:#}", cell.peer, cell.rate);
                }
            }
        }
    }
    if !options.json {
        print(&cells);
        println!("{} rounds of {} s in {} s", options.rounds, options.seconds, began.elapsed().as_secs());
    }
    ensure!(failed == 0, "{failed} measurements failed");
    Ok(())
}

fn measure_once(peer: Peer, rate: u64, options: &UnderLoad) -> anyhow::Result<Paced> {
    ensure!(rate > 0, "there is nothing to measure");
    let directory = tempfile::tempdir()?;
    let directory_name = directory.path().to_string_lossy();
    let server = ServerProcess::start(&["serve", "--peer", peer.name(), "--directory", &directory_name])?;
    let output = this_program(&["pace", "--peer", peer.name(), "--address", &server.address])?
        .args(["--rate", &rate.to_string(), "--seconds", &options.seconds.to_string()])
        .args(["--server", &server.pid().to_string()])
        .args(options.burn.then_some("--burn"))
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the client ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn print(cells: &[Cell]) {
    let mut table = Table::new();
    let names = PERCENTILES.iter().map(|percent| format!("p{percent}"));
    let more = ["max", "begun p99.9", "late p99.9", "CPU", "waited, %"].map(str::to_owned);
    table.set_header(["calls/s", ""].map(str::to_owned).into_iter().chain(names).chain(more));
    for cell in cells {
        let mut row = vec![cell.rate.to_string(), cell.peer.to_string()];
        if cell.keeps_up() {
            row.extend((0..PERCENTILES.len()).map(|n| cell.shown(0, |paced| paced.percentiles_us[n])));
            row.push(cell.shown(0, |paced| paced.max_us));
            row.push(cell.shown(0, |paced| paced.begun_p999_us));
            row.push(cell.shown(0, |paced| paced.late_p999_us));
            row.push(cell.shown(1, |paced| paced.cpu_us));
            row.push(cell.shown(0, |paced| paced.waited * 100.0));
        } else {
            row.extend(std::iter::repeat_n("-".to_owned(), PERCENTILES.len() + 5));
        }
        table.add_row(row);
    }
    println!("microseconds from when a call was due to its answer, `mul` on one connection (medians)");
    println!("{}", laid_out(table));
    println!(
        "-: did not keep up. begun: until the task of the call ran first, in the client's runtime. late: until the call \
         was handed to that. CPU: of both processes, microseconds a call. waited: time that the threads of both have waited \
         for a core, of the time.\n"
    );
    println!("against the best other framework of the same round (medians of each round's ratio)");
    println!("{}", laid_out(ratios(cells)));
}

/// The ratios of farcall's percentiles to the lowest of the other frameworks'.
fn ratios(cells: &[Cell]) -> Table {
    let mut table = Table::new();
    let names = PERCENTILES.iter().map(|percent| format!("p{percent}"));
    table.set_header(["calls/s", "", "p99 and p99.9 at most 1"].map(str::to_owned).into_iter().chain(names));
    for cell in cells.iter().filter(|cell| cell.peer.is_farcall() && cell.keeps_up()) {
        let against = |n: usize| {
            let rounds = cell.rounds.iter();
            let ratio = |(round, paced): &(usize, Paced)| {
                let best = best_rival(cells, cell.rate, *round, n)?;
                Some(paced.percentiles_us[n] / best)
            };
            median(rounds.filter_map(ratio).collect())
        };
        let ratios: Vec<_> = (0..PERCENTILES.len()).map(against).collect();
        if ratios.iter().any(|ratio| ratio.is_nan()) {
            continue;
        }
        let holds = if ratios[1] <= 1.0 && ratios[2] <= 1.0 { "yes" } else { "NO" };
        let ratios = ratios.iter().map(|ratio| format!("{ratio:.2}"));
        let row = [cell.rate.to_string(), cell.peer.to_string(), holds.to_owned()];
        table.add_row(row.into_iter().chain(ratios));
    }
    table
}

/// The lowest percentile of the other frameworks that kept up in a round.
fn best_rival(cells: &[Cell], rate: u64, round: usize, percentile: usize) -> Option<f64> {
    let rivals = cells.iter().filter(|cell| cell.peer.is_rival() && cell.rate == rate && cell.keeps_up());
    let in_round = rivals.flat_map(|cell| cell.rounds.iter().filter(move |(of, _)| *of == round));
    in_round
        .filter(|(_, paced)| paced.kept_up)
        .map(|(_, paced)| paced.percentiles_us[percentile])
        .reduce(f64::min)
}

fn laid_out(mut table: Table) -> Table {
    table.load_style(presets::ASCII_MARKDOWN);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl Cell {
    /// Returns `true` if the peer kept up in most rounds.
    fn keeps_up(&self) -> bool {
        self.rounds.iter().filter(|(_, paced)| paced.kept_up).count() * 2 > self.rounds.len()
    }

    fn shown(&self, digits: usize, figure: impl Fn(&Paced) -> f64) -> String {
        let kept_up = self.rounds.iter().filter(|(_, paced)| paced.kept_up);
        format!("{:.digits$}", median(kept_up.map(|(_, paced)| figure(paced)).collect()))
    }
}
