//! The report: a table to read, and JSON to compare.

use std::time::Duration;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use crate::attacker::Scheduling;
use crate::attacks::Attack;
use crate::honest::Latencies;
use crate::server::Figures;
use crate::verdict::{Measured, Verdict};

/// The number of columns between the attack and the verdict.
const COLUMNS: usize = 10;

/// The result of a trial.
pub(crate) struct Row {
    attack: &'static str,
    max_memory_mb: u64,
    /// `None` if the trial could not be made.
    measured: Option<Measured>,
    pub(crate) verdict: Verdict,
}

impl Row {
    pub(crate) fn new(attack: &Attack, measured: Measured, without_latency: bool) -> Self {
        let verdict = Verdict::of(attack, &measured, without_latency);
        let (name, max_memory_mb) = (attack.name(), attack.max_memory_mb());
        Self { attack: name, max_memory_mb, measured: Some(measured), verdict }
    }

    /// Creates the row of an attack for which this machine lacks something.
    pub(crate) fn not_tried(attack: &Attack, missing: &'static str) -> Self {
        let (name, max_memory_mb) = (attack.name(), attack.max_memory_mb());
        Self { attack: name, max_memory_mb, measured: None, verdict: Verdict::NotTried(missing) }
    }

    /// Creates the row of a trial that could not be made.
    pub(crate) fn failed(attack: &Attack, reason: &str) -> Self {
        let verdict = Verdict::Broken(vec![format!("not tried: {reason}")]);
        let (name, max_memory_mb) = (attack.name(), attack.max_memory_mb());
        Self { attack: name, max_memory_mb, measured: None, verdict }
    }
}

/// Returns a table with a row for each trial.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "attack",
        "p50/p99 before",
        "p50/p99 during",
        "errors",
        "control p99",
        "memory, MB",
        "of",
        "descriptors",
        "connections",
        "attacker",
        "requests/MB/s of CPU",
        "verdict",
    ]);
    for row in rows {
        let mut cells = vec![row.attack.to_owned()];
        match &row.measured {
            Some(measured) => cells.extend(cells_of(measured, row.max_memory_mb)),
            None => cells.extend(vec![String::new(); COLUMNS]),
        }
        cells.push(row.verdict.to_string());
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1).take(COLUMNS) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells_of(measured: &Measured, max_memory_mb: u64) -> [String; COLUMNS] {
    let both = |latencies: Latencies| format!("{}/{}", ms(latencies.p50), ms(latencies.p99));
    let (before, after) = (&measured.figures_before, measured.figures_after.unwrap_or_default());
    let count = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let megabytes = |bytes: u64| bytes / 1_000_000;
    let class = measured.attacker.and_then(|attacker| attacker.scheduling).map(Scheduling::name);
    [
        both(measured.before),
        both(measured.during),
        measured.errors.to_string(),
        ms(measured.control_during.p99),
        format!(
            "{} > {} > {}",
            megabytes(before.memory),
            megabytes(measured.max_memory),
            megabytes(after.memory)
        ),
        max_memory_mb.to_string(),
        format!("{} > {}", before.descriptors, after.descriptors),
        format!("{} > {}", count(before.connections), count(after.connections)),
        class.unwrap_or("?").to_owned(),
        measured.work().map_or_else(
            || "?".to_owned(),
            |work| {
                let seconds = Duration::from_millis(work.processor_ms).as_secs_f64();
                format!("{}/{}/{seconds:.1}", count(work.requests), megabytes(work.written))
            },
        ),
    ]
}

/// Returns a table with what each server held after each run of an attack.
pub(crate) fn repetitions(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["attack", "memory, kB", "descriptors", "connections", "calls", "buffers, bytes"]);
    for row in rows {
        let figures = row.measured.iter().flat_map(|measured| measured.repetition.figures());
        let all = |figure: fn(&Figures) -> Option<u64>| {
            let text = |figures| figure(figures).map_or_else(|| "?".to_owned(), |figure| figure.to_string());
            figures.clone().map(text).collect::<Vec<_>>().join(" > ")
        };
        table.add_row([
            row.attack.to_owned(),
            all(|figures| Some(figures.memory / 1000)),
            all(|figures| Some(figures.descriptors as u64)),
            all(|figures| figures.connections),
            all(|figures| figures.calls),
            all(|figures| figures.buffered),
        ]);
    }
    table
}

fn ms(latency: Duration) -> String {
    format!("{:.1}", latency.as_secs_f64() * 1e3)
}

/// Returns all that was measured, as JSON. Times are in milliseconds, sizes in bytes.
pub(crate) fn json(rows: &[Row]) -> serde_json::Result<String> {
    let rows: Vec<Value> = rows.iter().map(json_of).collect();
    serde_json::to_string_pretty(&rows)
}

fn json_of(row: &Row) -> Value {
    let mut value = json!({
        "attack": row.attack,
        "verdict": row.verdict.to_string(),
        "clean": row.verdict.is_clean(),
        "max_memory_mb": row.max_memory_mb,
    });
    if let Some(measured) = &row.measured {
        value["measured"] = measured_json(measured);
    }
    value
}

fn measured_json(measured: &Measured) -> Value {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let latencies = |latencies: Latencies| json!({"p50_ms": ms(latencies.p50), "p99_ms": ms(latencies.p99)});
    let figures = |figures: Option<Figures>| json!(figures);
    json!({
        "honest_before": latencies(measured.before),
        "honest_during": latencies(measured.during),
        "control_before": latencies(measured.control_before),
        "control_during": latencies(measured.control_during),
        "slowest_newcomer_ms": ms(measured.slowest_newcomer),
        "slowest_of_each_second_ms": measured.slowest.iter().copied().map(ms).collect::<Vec<_>>(),
        "errors": measured.errors,
        "first_error": measured.first_error,
        "failed_newcomers_allowed": measured.excused,
        "server_before": figures(Some(measured.figures_before)),
        "server_during": figures(measured.figures_during),
        "server_after": figures(measured.figures_after),
        "attacker": measured.attacker,
        "server_work": measured.work(),
        "max_memory": measured.max_memory,
        "back_after_ms": measured.back_after.map(ms),
        "attacked_ms": ms(measured.attacked),
        "log_bytes": measured.log_bytes,
        "at_rest_after_each_run": measured.repetition.figures(),
        "further_runs": measured.further_runs.iter().map(measured_json).collect::<Vec<_>>(),
    })
}
