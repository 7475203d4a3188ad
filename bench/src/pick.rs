//! The cost of choosing an endpoint: nanoseconds for each pick, and milliseconds to prepare a picker.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use farcall_discovery::{
    Balancer, Candidate, Candidates, ConsistentHash, Endpoint, LeastLoaded, PeakEwma, PickRequest, Picker,
    Random, RoundRobin, WeightedRoundRobin, ZoneFirst,
};
use farcall_transport::Address;
use serde::Serialize;

use crate::measured::median;

#[derive(Args)]
pub(crate) struct Pick {
    /// Numbers of endpoints, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "10,1000,10000")]
    endpoints: Vec<usize>,
    /// Number of threads that pick concurrently.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Number of measurements of each.
    #[arg(long, default_value_t = 41)]
    rounds: usize,
    /// The measured time of each round, in milliseconds: shorter than a turn of the kernel's scheduler,
    /// so that most rounds are undisturbed on a busy machine, too.
    #[arg(long, default_value_t = 3)]
    ms: u64,
    /// Prints one JSON object a line for each measurement instead of tables.
    #[arg(long)]
    json: bool,
}

/// One measurement.
#[derive(Serialize)]
struct Cost {
    balancer: &'static str,
    endpoints: usize,
    weights: &'static str,
    threads: usize,
    pick_ns: f64,
    prepare_ms: f64,
}

const WEIGHTS: [&str; 2] = ["equal", "mixed"];

/// Picks between two looks at the clock.
const BATCH: usize = 256;
const KEYS: usize = 4096;

pub(crate) fn run(pick: &Pick) -> anyhow::Result<()> {
    let mut costs = Vec::new();
    for _ in 0..pick.rounds {
        for weights in WEIGHTS {
            for endpoints in &pick.endpoints {
                let candidates = candidates(*endpoints, weights)?;
                for (name, balancer) in balancers() {
                    let begun = Instant::now();
                    let picker = balancer.picker(&candidates);
                    let prepare_ms = begun.elapsed().as_secs_f64() * 1e3;
                    let pick_ns = measure(&*picker, Duration::from_millis(pick.ms), pick.threads);
                    let (balancer, endpoints, threads) = (name, *endpoints, pick.threads);
                    let cost = Cost { balancer, endpoints, weights, threads, pick_ns, prepare_ms };
                    if pick.json {
                        println!("{}", serde_json::to_string(&cost)?);
                    }
                    costs.push(cost);
                }
            }
        }
    }
    if !pick.json {
        println!("nanoseconds a pick (medians)\n{}", table(&costs, &pick.endpoints, |cost| cost.pick_ns, 0));
        let prepared = table(&costs, &pick.endpoints, |cost| cost.prepare_ms, 2);
        println!("\nmilliseconds to prepare a picker (medians)\n{prepared}");
    }
    Ok(())
}

fn balancers() -> [(&'static str, Box<dyn Balancer>); 7] {
    [
        ("Random", Box::new(Random)),
        ("RoundRobin", Box::new(RoundRobin)),
        ("WeightedRoundRobin", Box::new(WeightedRoundRobin)),
        ("LeastLoaded", Box::new(LeastLoaded)),
        ("PeakEwma", Box::new(PeakEwma)),
        ("ConsistentHash", Box::new(ConsistentHash::by_key())),
        ("ZoneFirst(LeastLoaded)", Box::new(ZoneFirst::new("zone-0", LeastLoaded))),
    ]
}

/// Endpoints in three zones, with calls in flight and latencies as chance has it.
fn candidates(endpoints: usize, weights: &str) -> anyhow::Result<Candidates> {
    let mut chance = fastrand::Rng::with_seed(endpoints as u64);
    let mut candidate = |index: usize| {
        let address = Address::parse(&format!("tcp@10.{}.{}.1:7001", index / 256, index % 256))?;
        let weight = if weights == "equal" { 100 } else { chance.u16(50..=150) };
        let endpoint = Endpoint::new(address).with_weight(weight).with_zone(format!("zone-{}", index % 3));
        let candidate = Candidate::new(index as u64, Arc::new(endpoint), Arc::default());
        (0..chance.usize(..8)).for_each(|_| candidate.load.started());
        candidate.load.record_latency(Duration::from_micros(chance.u64(500..50_000)));
        Ok(candidate)
    };
    let usable: anyhow::Result<Arc<[Candidate]>> = (0..endpoints).map(&mut candidate).collect();
    let usable = usable?;
    Ok(Candidates::new(Arc::clone(&usable), usable))
}

/// Nanoseconds a pick takes, as each of the threads sees it.
fn measure(picker: &dyn Picker, time: Duration, threads: usize) -> f64 {
    let keys: Vec<String> = (0..KEYS).map(|user| format!("user-{user}")).collect();
    let picking = |time: Duration| {
        let (begun, mut picks) = (Instant::now(), 0_usize);
        while begun.elapsed() < time {
            for _ in 0..BATCH {
                let key = keys[picks % KEYS].as_bytes();
                black_box(picker.pick(&PickRequest::new(Some(black_box(key)), &[])));
                picks += 1;
            }
        }
        begun.elapsed().as_nanos() as f64 / picks as f64
    };
    picking(time / 4);
    let all: Vec<f64> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(|| picking(time))).collect();
        all.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    median(all)
}

fn table(costs: &[Cost], endpoints: &[usize], figure: impl Fn(&Cost) -> f64, digits: usize) -> Table {
    let columns = || WEIGHTS.iter().flat_map(|weights| endpoints.iter().map(move |n| (*weights, *n)));
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let header = columns().map(|(weights, n)| format!("{n}, {weights}"));
    table.set_header(std::iter::once(String::new()).chain(header));
    for (name, _) in balancers() {
        let of = |weights: &'static str, n: usize| {
            let those = costs
                .iter()
                .filter(move |cost| (cost.balancer, cost.weights, cost.endpoints) == (name, weights, n));
            median(those.map(&figure).collect())
        };
        let cells = columns().map(|(weights, n)| format!("{:.digits$}", of(weights, n)));
        table.add_row(std::iter::once(name.to_owned()).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
