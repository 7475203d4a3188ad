//! `latency-under-load`: what calls take that come at a fixed rate, whether or not others have ended.
//!
//! A closed loop waits for a slow answer before it asks again, and so leaves out those calls that would have
//! suffered most. Here each call is counted from when it was due, also where it began late.

use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::client::{Client, WithClients};
use crate::load::{latencies_of_none, percentile_us};
use crate::peers::Peer;
use crate::process::{ServerProcess, this_program};
use crate::scenario::{BURN, BURN_EVERY};

/// The share of the time that is not counted, at the beginning.
const WARM_UP: f64 = 0.2;
/// The number of calls in flight above which the peer does not keep up, which is then the result.
const MAX_IN_FLIGHT: usize = 50_000;
/// The time limit of the last calls.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

#[derive(Args)]
pub(crate) struct UnderLoad {
    /// The peers to measure, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "farcall,tarpc-msgpack,tarpc-bincode,tarpc-bincode-ct"
    )]
    peers: Vec<Peer>,
    /// Calls a second, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "5000,20000,50000,100000")]
    rates: Vec<u64>,
    /// Duration of each measurement, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Has one call in a hundred burn 5 ms of CPU, which only farcall's servers know how to; figures are of the
    /// others.
    #[arg(long)]
    burn: bool,
    /// Prints one JSON object a line for each measurement instead of a table.
    #[arg(long)]
    json: bool,
}

/// Calls at a rate (used by `latency-under-load`).
#[derive(Args)]
pub(crate) struct Pace {
    #[arg(long)]
    pub(crate) peer: Peer,
    #[arg(long)]
    address: String,
    #[arg(long)]
    rate: u64,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    burn: bool,
}

/// One measurement.
#[derive(Debug, Serialize, Deserialize)]
struct Paced {
    peer: String,
    rate: u64,
    /// `true` if the number of calls in flight never exceeded the limit.
    kept_up: bool,
    percentiles_us: [f64; PERCENTILES.len()],
    max_us: f64,
}

pub(crate) fn run(options: &UnderLoad) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let names = PERCENTILES.iter().map(|percent| format!("p{percent}"));
    table.set_header(["", "calls/s"].map(str::to_owned).into_iter().chain(names).chain(["max".to_owned()]));
    for rate in &options.rates {
        for peer in &options.peers {
            let paced = measure_once(*peer, *rate, options)
                .with_context(|| format!("{peer} at {rate} calls a second"))?;
            if options.json {
                println!("{}", serde_json::to_string(&paced)?);
            }
            let cells = paced.percentiles_us.iter().chain([&paced.max_us]);
            let cells = cells.map(|us| if paced.kept_up { format!("{us:.0}") } else { "-".to_owned() });
            table.add_row([peer.to_string(), rate.to_string()].into_iter().chain(cells));
        }
    }
    if !options.json {
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("microseconds from when a call was due, {} s at each rate\n{table}", options.seconds);
        println!("`mul` on one connection; - is where {MAX_IN_FLIGHT} calls were under way and more came.");
    }
    Ok(())
}

fn measure_once(peer: Peer, rate: u64, options: &UnderLoad) -> anyhow::Result<Paced> {
    let seconds = options.seconds;
    ensure!(rate > 0 && seconds > 0, "there is nothing to measure");
    let directory = tempfile::tempdir()?;
    let directory_name = directory.path().to_string_lossy();
    let server = ServerProcess::start(&["serve", "--peer", peer.name(), "--directory", &directory_name])?;
    let output = this_program(&["pace", "--peer", peer.name(), "--address", &server.address])?
        .args(["--rate", &rate.to_string(), "--seconds", &seconds.to_string()])
        .args(options.burn.then_some("--burn"))
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the client ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs the client's side, in a separate process.
pub(crate) async fn run_pace(pace: &Pace) -> anyhow::Result<()> {
    let calls = usize::try_from(pace.rate * pace.seconds)?;
    let at_rate = AtRate { rate: pace.rate, calls, burn: pace.burn };
    let (kept_up, nanos) = pace.peer.with_clients(&pace.address, 1, at_rate).await?.await?;
    let mut latencies = latencies_of_none();
    let counted = nanos.iter().enumerate().skip((calls as f64 * WARM_UP) as usize);
    let others = counted.filter(|(index, _)| !at_rate.burns(*index));
    others.for_each(|(_, nanos)| latencies.saturating_record(nanos.load(Relaxed)));
    let paced = Paced {
        peer: pace.peer.to_string(),
        rate: pace.rate,
        kept_up,
        percentiles_us: PERCENTILES.map(|percent| percentile_us(&latencies, percent)),
        max_us: latencies.max() as f64 / 1000.0,
    };
    println!("{}", serde_json::to_string(&paced)?);
    Ok(())
}

/// `true` if the peer kept up, and the latency of each call in nanoseconds.
type Taken = (bool, Arc<[AtomicU64]>);

/// Starts calls, each when it is due.
#[derive(Clone, Copy)]
struct AtRate {
    rate: u64,
    calls: usize,
    burn: bool,
}

impl AtRate {
    fn burns(&self, index: usize) -> bool {
        self.burn && index.is_multiple_of(BURN_EVERY)
    }
}

impl WithClients for AtRate {
    type Output = Pin<Box<dyn Future<Output = anyhow::Result<Taken>> + Send>>;

    fn run<C: Client>(self, mut clients: Vec<C>) -> Self::Output {
        Box::pin(async move {
            let client = clients.pop().context("there is one")?;
            client.multiply(6, 7).await?;
            let nanos: Arc<[AtomicU64]> = (0..self.calls).map(|_| AtomicU64::new(0)).collect();
            let under_way = Arc::new(AtomicUsize::new(0));
            let failed = Arc::new(AtomicUsize::new(0));
            let call = {
                let (nanos, under_way, failed) =
                    (Arc::clone(&nanos), Arc::clone(&under_way), Arc::clone(&failed));
                move |index: usize, due: Instant, burns: bool| {
                    let client = client.clone();
                    let (nanos, under_way, failed) =
                        (Arc::clone(&nanos), Arc::clone(&under_way), Arc::clone(&failed));
                    under_way.fetch_add(1, Relaxed);
                    async move {
                        let n = index as i64;
                        let is_right = if burns {
                            client.burn(BURN).await.is_ok()
                        } else {
                            client.multiply(n, 7).await.ok() == Some(n * 7)
                        };
                        if !is_right {
                            failed.fetch_add(1, Relaxed);
                        }
                        nanos[index].store(due.elapsed().as_nanos() as u64, Relaxed);
                        under_way.fetch_sub(1, Relaxed);
                    }
                }
            };
            let handle = Handle::current();
            let watched = Arc::clone(&under_way);
            // A thread of its own: the runtime's timers are good to a millisecond.
            let kept_up = tokio::task::spawn_blocking(move || {
                let began = Instant::now();
                for index in 0..self.calls {
                    let due = began + Duration::from_nanos(index as u64 * 1_000_000_000 / self.rate);
                    if let Some(early) = due.checked_duration_since(Instant::now()) {
                        std::thread::sleep(early);
                    }
                    if watched.load(Relaxed) > MAX_IN_FLIGHT {
                        return false;
                    }
                    handle.spawn(call(index, due, self.burns(index)));
                }
                true
            })
            .await?;
            let deadline = Instant::now() + CALL_TIMEOUT;
            while kept_up && under_way.load(Relaxed) > 0 && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            ensure!(failed.load(Relaxed) == 0, "{} calls failed", failed.load(Relaxed));
            Ok((kept_up && under_way.load(Relaxed) == 0, nanos))
        })
    }
}
