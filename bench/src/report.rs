//! Tables of medians, and ratios against the raw limit.

use std::fs;

use comfy_table::{CellAlignment, Table, presets};

use crate::load::Figures;
use crate::measured::{Measured, measured, median, of};
use crate::peers::Peer;
use crate::scenario::Scenario;

/// A figure of a measurement.
type Figure = fn(&Figures) -> f64;

pub(crate) fn print(all: &[Measured], rounds: usize, ms: u64) {
    print_tables(all);
    println!("\n{}", caption(&measured(all).0, rounds, ms));
}

pub(crate) fn print_tables(all: &[Measured]) {
    let tables: [(&str, Figure, usize); 5] = [
        ("thousand calls a second", |figures| figures.calls_per_s / 1000.0, 1),
        ("p50, microseconds", |figures| figures.p50_us, 0),
        ("p99, microseconds", |figures| figures.p99_us, 0),
        ("CPU of both processes, microseconds a call", |figures| figures.cpu_us, 2),
        ("peak memory of the larger process, MB", |figures| figures.rss_kb as f64 / 1000.0, 1),
    ];
    let (peers, scenarios) = measured(all);
    for (title, figure, digits) in tables {
        let cell = |peer: Peer, scenario: &Scenario| {
            let values: Vec<_> = of(all, peer, scenario).map(|one| figure(&one.figures)).collect();
            (!values.is_empty()).then(|| format!("{:.digits$}", median(values)))
        };
        println!("\n{title} (medians)\n{}", table(&peers, &scenarios, cell));
    }
    if peers.contains(&Peer::Raw) {
        let peers: Vec<_> = peers.iter().copied().filter(|peer| *peer != Peer::PingPong).collect();
        println!("\ncalls a second against raw (medians of each round's ratio)");
        println!("{}", table(&peers, &scenarios, |peer, scenario| against_raw(all, peer, scenario)));
    }
}

/// Describes the machine, the measurement and the settings of each peer.
fn caption(peers: &[Peer], rounds: usize, ms: u64) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut caption = format!(
        "{cores} cores of {}, Linux {}, {}. {rounds} rounds of {ms} ms, interleaved; client and server are two \
         processes over loopback.\nAll: release, LTO, the system's allocator, TCP_NODELAY, tokio with 2 workers \
         (1 where there is 1 core) if nothing else is said.\n",
        model.map_or("unknown make", |(_, model)| model),
        kernel.trim(),
        env!("COMPILER"),
    );
    for peer in peers {
        caption.push_str(&format!("- {peer}: {}\n", peer.settings()));
    }
    caption
}

fn against_raw(all: &[Measured], peer: Peer, scenario: &Scenario) -> Option<String> {
    let in_round = |round| of(all, Peer::Raw, scenario).find(|raw| raw.round == round);
    let ratios: Vec<_> = of(all, peer, scenario)
        .filter_map(|one| Some(one.figures.calls_per_s / in_round(one.round)?.figures.calls_per_s))
        .collect();
    (!ratios.is_empty()).then(|| format!("{:.2}", median(ratios)))
}

fn table(peers: &[Peer], scenarios: &[Scenario], cell: impl Fn(Peer, &Scenario) -> Option<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(std::iter::once(String::new()).chain(scenarios.iter().map(Scenario::to_string)));
    for peer in peers {
        let cells = scenarios.iter().map(|scenario| cell(*peer, scenario).unwrap_or_default());
        table.add_row(std::iter::once(peer.to_string()).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
