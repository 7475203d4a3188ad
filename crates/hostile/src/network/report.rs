//! [`Row`]: the result of a trial, and the table of all.

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

use super::fault::Fault;
use super::judgement::Judgement;

/// The findings that a verdict shows; the rest is a number.
const MAX_SHOWN: usize = 3;

/// The result of a trial.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    fault: &'static str,
    verdict: String,
    #[serde(flatten)]
    judgement: Option<Judgement>,
}

impl Row {
    pub(super) fn new(fault: Fault, judged: anyhow::Result<Judgement>) -> Self {
        let (verdict, judgement) = match judged {
            Ok(judgement) => (verdict(&judgement), Some(judgement)),
            Err(error) => (format!("not tried: {error:#}"), None),
        };
        Self { fault: fault.name(), verdict, judgement }
    }

    pub(super) fn verdict(&self) -> &str {
        &self.verdict
    }

    /// Returns `true` if the machine was too busy to tell.
    pub(super) fn is_busy(&self) -> bool {
        self.judgement.as_ref().is_some_and(|judgement| judgement.is_busy)
    }
}

fn verdict(judgement: &Judgement) -> String {
    let broken = &judgement.broken;
    if broken.is_empty() {
        return if judgement.is_busy { "busy machine" } else { "clean" }.to_owned();
    }
    let shown = broken[..broken.len().min(MAX_SHOWN)].join("; ");
    match broken.len().checked_sub(MAX_SHOWN) {
        Some(more @ 1..) => format!("{shown}; and {more} more"),
        _ => shown,
    }
}

/// Returns a table with two rows for each trial: the clients with the default keep-alive, and those with one of 3 s.
pub(super) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "fault",
        "keep-alive",
        "calls",
        "answered during it, %",
        "p50/p99 of these, ms",
        "late, ms",
        "noticed busy/idle, s",
        "server noticed, s",
        "last failure during it, s",
        "last failure after it, s",
        "timers late, ms",
        "verdict",
    ]);
    for row in rows {
        let Some(judgement) = &row.judgement else {
            let mut cells = vec![String::new(); 12];
            (cells[0], cells[11]) = (row.fault.to_owned(), row.verdict.clone());
            table.add_row(cells);
            continue;
        };
        for (name, client) in &judgement.clients {
            let time = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time:.1}"));
            table.add_row([
                row.fault.to_owned(),
                (*name).to_owned(),
                client.calls.to_string(),
                format!("{:.1}", client.answered_during_percent),
                client.latencies_during_ms.map(|latency| format!("{latency:.0}")).join("/"),
                format!("{:.0}", client.late_ms),
                client.noticed.map(time).join(" / "),
                time(judgement.server_noticed),
                format!("{:.1}", client.failed_over),
                format!("{:.1}", client.recovered),
                format!("{:.0}", judgement.max_lag_ms),
                row.verdict.clone(),
            ]);
        }
    }
    table
}
