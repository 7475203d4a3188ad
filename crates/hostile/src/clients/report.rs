//! [`Row`]: the judgement of a trial, and the table of all.

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

use super::caller::TIMEOUT;
use super::trial::{Language, Outcome};
use super::trick::Trick;

/// The time by which a call may outlive its limit, in milliseconds: long enough for a busy machine.
const MAX_LATE_MS: f64 = 2_000.0;
/// The most memory of a client, in MB: a few answers of 4 MiB, and the language.
const MAX_MEMORY_MB: u64 = 200;
/// The most connections that a client may open in 3 s; it pauses between attempts.
const MAX_CONNECTIONS: usize = 100;

/// The result of a trial.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    client: &'static str,
    trick: &'static str,
    pub(super) verdict: String,
    #[serde(flatten)]
    outcome: Option<Outcome>,
}

impl Row {
    pub(super) fn new(language: Language, trick: Trick, outcome: anyhow::Result<Outcome>) -> Self {
        let (verdict, outcome) = match outcome {
            Ok(outcome) => (verdict(trick, &outcome), Some(outcome)),
            Err(error) => (format!("{error:#}"), None),
        };
        Self { client: language.name(), trick: trick.name(), verdict, outcome }
    }
}

fn verdict(trick: Trick, outcome: &Outcome) -> String {
    let mut broken = Vec::new();
    let (calls, megabytes) = (&outcome.calls, outcome.max_memory / 1_000_000);
    let most = TIMEOUT.as_secs_f64() * 1e3 + MAX_LATE_MS;
    broken.extend(calls.unexpected.clone());
    if calls.calls == 0 {
        broken.push("no calls were made".to_owned());
    }
    if trick.is_truthful() && calls.wrong > 0 {
        broken.push(format!("{} wrong answers", calls.wrong));
    }
    if calls.slowest_ms > most {
        broken.push(format!("a call took {:.0} ms, of {most:.0}", calls.slowest_ms));
    }
    if megabytes > MAX_MEMORY_MB {
        broken.push(format!("{megabytes} MB of memory, of {MAX_MEMORY_MB}"));
    }
    if outcome.connections > MAX_CONNECTIONS {
        broken.push(format!("{} connections", outcome.connections));
    }
    if broken.is_empty() { "clean".to_owned() } else { broken.join("; ") }
}

/// Returns a table with a row for each trial.
pub(super) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "client",
        "trick",
        "calls",
        "answers",
        "slowest, ms",
        "connections",
        "memory, MB",
        "verdict",
    ]);
    for row in rows {
        let mut cells = vec![row.client.to_owned(), row.trick.to_owned()];
        match &row.outcome {
            Some(Outcome { calls, connections, max_memory }) => cells.extend([
                calls.calls.to_string(),
                calls.answers.to_string(),
                format!("{:.0}", calls.slowest_ms),
                connections.to_string(),
                (max_memory / 1_000_000).to_string(),
            ]),
            None => cells.extend(vec![String::new(); 5]),
        }
        cells.push(row.verdict.clone());
        table.add_row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::trial::Calls;
    use super::*;

    #[test]
    fn every_broken_promise_is_named() {
        let fine = Calls { calls: 8, slowest_ms: 1_000.0, ..Calls::default() };
        let fine = Outcome { calls: fine, connections: 3, max_memory: 50_000_000 };
        assert_eq!(verdict(Trick::LargeAnswers, &fine), "clean");
        let bad = Calls {
            wrong: 1,
            slowest_ms: 9_000.0,
            unexpected: Some("KeyError".to_owned()),
            ..Calls::default()
        };
        let bad = Outcome { calls: bad, connections: 1_000, max_memory: 1_000_000_000 };
        let text = verdict(Trick::RepeatedAnswers, &bad);
        for part in ["KeyError", "no calls", "1 wrong", "9000 ms", "1000 MB", "1000 connections"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!verdict(Trick::MutatedAnswers, &bad).contains("wrong"), "it may answer what it likes");
    }
}
