//! The measurements and their tables.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use super::options::LoadOptions;
use crate::measured::median;

/// A distribution of durations.
#[derive(Clone)]
pub(super) struct Spread(Histogram<u64>);

impl Default for Spread {
    fn default() -> Self {
        // Microseconds, up to ten minutes.
        Self(Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are legal"))
    }
}

impl Spread {
    pub(super) fn record(&mut self, time: Duration) {
        self.0.saturating_record(time.as_micros() as u64);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the bounds are the same");
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn ms(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1000.0
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let percentiles = [("p50_ms", 50.0), ("p99_ms", 99.0), ("max_ms", 100.0)];
        serializer.collect_map(percentiles.map(|(name, percent)| (name, self.ms(percent))))
    }
}

/// One run with watchers.
#[derive(Clone, Serialize)]
pub(super) struct Figures {
    pub(super) watch: String,
    pub(super) registrations_per_s: f64,
    /// Until every watcher had its first list.
    pub(super) watching_s: f64,
    /// Answered, of those that were due.
    pub(super) heartbeats_per_s: f64,
    /// From when it was due to its answer.
    pub(super) heartbeat: Spread,
    /// From when a change was sent to each one of its watchers.
    pub(super) change_at_each: Spread,
    /// The same to the last of its watchers.
    pub(super) change_at_all: Spread,
    /// Watchers that did not see a change.
    pub(super) missed: usize,
    /// The number of notifications to watchers that events were lost.
    pub(super) resyncs: usize,
    pub(super) registry_cores: f64,
    pub(super) load_cores: f64,
    /// Resident in the registry when all were registered, at the end, and at most.
    pub(super) registered_mb: f64,
    pub(super) resident_mb: f64,
    pub(super) peak_mb: f64,
}

/// One list, asked for again and again.
#[derive(Clone, Serialize)]
pub(super) struct ListFigures {
    pub(super) what: String,
    pub(super) changes_per_s: u32,
    pub(super) body_kb: f64,
    pub(super) per_s: f64,
    pub(super) took: Spread,
    pub(super) peak_mb: f64,
}

/// A row: its title, its target, its value, and the number of decimals.
type Row = (&'static str, &'static str, fn(&Figures) -> f64, usize);

const ROWS: &[Row] = &[
    ("registrations a second, one after the other", "", |f| f.registrations_per_s, 0),
    ("until every watcher has its first list, s", "", |f| f.watching_s, 2),
    ("heartbeats a second, answered", "", |f| f.heartbeats_per_s, 0),
    ("heartbeat p50, ms", "", |f| f.heartbeat.ms(50.0), 2),
    ("heartbeat p99, ms", "< 10", |f| f.heartbeat.ms(99.0), 2),
    ("heartbeat max, ms", "", |f| f.heartbeat.ms(100.0), 2),
    ("a change at a watcher of it, p50, ms", "", |f| f.change_at_each.ms(50.0), 2),
    ("a change at a watcher of it, p99, ms", "< 250", |f| f.change_at_each.ms(99.0), 2),
    ("a change at its last watcher, p50, ms", "", |f| f.change_at_all.ms(50.0), 2),
    ("a change at its last watcher, p99, ms", "< 250", |f| f.change_at_all.ms(99.0), 2),
    ("a change at its last watcher, max, ms", "", |f| f.change_at_all.ms(100.0), 2),
    ("changes that a watcher missed", "0", |f| f.missed as f64, 0),
    ("resyncs", "", |f| f.resyncs as f64, 0),
    ("the registry's CPU, cores", "", |f| f.registry_cores, 2),
    ("the load's CPU, cores", "", |f| f.load_cores, 2),
    ("resident, all registered, MB", "", |f| f.registered_mb, 1),
    ("resident at the end, MB", "< 150", |f| f.resident_mb, 1),
    ("resident at most, MB", "< 150", |f| f.peak_mb, 1),
];

pub(super) fn print(options: &LoadOptions, all: &[Figures], lists: &[ListFigures]) {
    println!(
        "\n{} instances of {} services, {} heartbeats/s, {} watchers, {} changes/s (medians of {})",
        options.instances,
        options.services,
        options.heartbeats,
        options.watchers,
        options.changes,
        options.rounds
    );
    let mut table = new_table(
        ["".to_owned(), "target".to_owned()]
            .into_iter()
            .chain(options.watch.iter().map(|watch| format!("watching {}", watch.name()))),
    );
    for (what, target, figure, digits) in ROWS {
        let cells = options.watch.iter().map(|watch| {
            let values = all.iter().filter(|figures| figures.watch == watch.name()).map(figure);
            format!("{:.digits$}", median(values.collect()), digits = *digits)
        });
        table.add_row([(*what).to_owned(), (*target).to_owned()].into_iter().chain(cells));
    }
    println!("{}", aligned(table));
    if !lists.is_empty() {
        print_lists(options, lists);
    }
}

fn print_lists(options: &LoadOptions, lists: &[ListFigures]) {
    println!(
        "\nlists of {} instances in one service, {} connections (medians of {})",
        options.instances, options.connections, options.rounds
    );
    let mut table =
        new_table(["", "changes/s", "body, kB", "answers/s", "p50, ms", "p99, ms"].map(str::to_owned));
    let first = |figures: &&ListFigures| (figures.what.clone(), figures.changes_per_s);
    for (what, changes_per_s) in lists.iter().take(lists.len() / options.rounds as usize).map(|f| first(&f)) {
        let of = |figure: fn(&ListFigures) -> f64| {
            let same = |figures: &&ListFigures| first(figures) == (what.clone(), changes_per_s);
            median(lists.iter().filter(same).map(figure).collect())
        };
        table.add_row([
            what.clone(),
            changes_per_s.to_string(),
            format!("{:.0}", of(|figures| figures.body_kb)),
            format!("{:.0}", of(|figures| figures.per_s)),
            format!("{:.2}", of(|figures| figures.took.ms(50.0))),
            format!("{:.2}", of(|figures| figures.took.ms(99.0))),
        ]);
    }
    println!("{}", aligned(table));
    let peaks = lists.iter().map(|figures| figures.peak_mb).collect();
    println!("resident at most while lists were asked for: {:.1} MB (median)", median(peaks));
}

fn new_table(header: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header.into_iter().collect::<Vec<_>>());
    table
}

fn aligned(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
