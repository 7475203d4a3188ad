//! Tables of medians, and ratios against the raw limit.

use comfy_table::{CellAlignment, Table, presets};

use crate::load::Figures;
use crate::peers::Peer;
use crate::scenario::Scenario;

/// A figure of a measurement.
type Figure = fn(&Figures) -> f64;

pub(crate) fn print(all: &[Figures], peers: &[Peer], scenarios: &[Scenario]) {
    let tables: [(&str, Figure, usize); 5] = [
        ("thousand calls a second", |figures| figures.calls_per_s / 1000.0, 1),
        ("p50, microseconds", |figures| figures.p50_us, 0),
        ("p99, microseconds", |figures| figures.p99_us, 0),
        ("CPU of both processes, microseconds a call", |figures| figures.cpu_us, 2),
        ("peak memory of the larger process, MB", |figures| figures.rss_kb as f64 / 1000.0, 1),
    ];
    for (title, figure, digits) in tables {
        println!("\n{title} (medians)\n{}", table(all, peers, scenarios, |figures| figure(figures), digits));
    }
    if peers.contains(&Peer::Raw) {
        println!("\ncalls a second against raw (medians of each round's ratio)");
        println!("{}", ratios(all, peers, scenarios));
    }
}

fn table(
    all: &[Figures],
    peers: &[Peer],
    scenarios: &[Scenario],
    figure: impl Fn(&Figures) -> f64,
    digits: usize,
) -> Table {
    rows(peers, scenarios, |peer, scenario| {
        let values = of(all, peer, scenario).map(&figure).collect();
        format!("{:.digits$}", median(values))
    })
}

fn ratios(all: &[Figures], peers: &[Peer], scenarios: &[Scenario]) -> Table {
    rows(peers, scenarios, |peer, scenario| {
        let pairs = of(all, peer, scenario).zip(of(all, Peer::Raw, scenario));
        let values = pairs.map(|(one, raw)| one.calls_per_s / raw.calls_per_s).collect();
        format!("{:.2}", median(values))
    })
}

fn rows(peers: &[Peer], scenarios: &[Scenario], cell: impl Fn(Peer, Scenario) -> String) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(std::iter::once(String::new()).chain(scenarios.iter().map(Scenario::to_string)));
    for peer in peers {
        let cells = scenarios.iter().map(|scenario| cell(*peer, *scenario));
        table.add_row(std::iter::once(peer.to_string()).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn of<'a>(all: &'a [Figures], peer: Peer, scenario: Scenario) -> impl Iterator<Item = &'a Figures> {
    all.iter().filter(move |figures| figures.peer == peer.name() && figures.scenario == scenario.name)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}
