//! The report of a job.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Cell, CellAlignment, Table};
use farcall::transport::HumanDuration;
use hdrhistogram::Histogram;

use crate::cluster::ServerSummary;
use crate::count::{Counts, commonest};
use crate::input::{Reason, Skipped};

/// The number of words in the report.
const COMMONEST: usize = 20;
/// The length at which words are cut, so that the table fits a terminal.
const MAX_WORD_CHARS: usize = 40;

/// The longest latency that is recorded exactly: an hour, far over a call's limit.
const MAX_LATENCY_US: u64 = 3_600_000_000;
/// The significant digits of percentiles.
const LATENCY_DIGITS: u8 = 2;

const TITLE: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();

/// The results of a job, after they were checked.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) counts: Counts,
    pub(crate) files: u64,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) bytes: u64,
    pub(crate) calls: u64,
    pub(crate) took: Duration,
    pub(crate) latencies: Latencies,
    pub(crate) servers: Vec<ServerSummary>,
}

/// The latencies of calls.
#[derive(Debug)]
pub(crate) struct Latencies {
    micros: Histogram<u64>,
}

/// Prints a line and flushes stdout, so that it is visible at once. Colours are left out if stdout is
/// not a terminal.
pub(crate) fn say(line: impl Display) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

impl Report {
    fn words(&self) -> Table {
        let mut table = table(&["", "word", "count"], &[0, 2]);
        for (rank, (word, count)) in commonest(&self.counts, COMMONEST).into_iter().enumerate() {
            table.add_row([(rank + 1).to_string(), cut(word), grouped(count)]);
        }
        table
    }

    fn servers(&self) -> Table {
        let mut table = table(&["server", "address", "calls taken", ""], &[2]);
        for ServerSummary { name, address, took, fate } in &self.servers {
            let took = took.map_or_else(|| "unknown".to_owned(), grouped);
            table.add_row([name.clone(), address.to_string(), took, (*fate).to_owned()]);
        }
        table
    }

    fn totals(&self) -> String {
        let per_second = self.calls as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE);
        let at = |percent| HumanDuration(self.latencies.percentile(percent));
        let mut text = String::new();
        let mut line = |name: &str, value: &dyn Display| {
            writeln!(text, "{name:<9}{value}").expect("a String takes what is written");
        };
        line("files", &format_args!("{}{}", grouped(self.files), SkippedCounts(&self.skipped)));
        line("bytes", &grouped(self.bytes));
        line("calls", &format_args!("{}, none of which failed", grouped(self.calls)));
        line("time", &HumanDuration(self.took));
        line("calls/s", &grouped(per_second as u64));
        line("latency", &format_args!("p50 {}, p90 {}, p99 {}", at(50.0), at(90.0), at(99.0)));
        text
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.counts.values().sum();
        let different = self.counts.len() as u64;
        writeln!(f, "\n{TITLE}The {COMMONEST} commonest words{TITLE:#}\n{}", self.words())?;
        writeln!(f, "\n{}\n{}", self.totals(), self.servers())?;
        let (words, different) = (grouped(words), grouped(different));
        write!(f, "\n{GOOD}ok{GOOD:#}: {words} words, {different} of them different, as counted locally")
    }
}

impl Latencies {
    pub(crate) fn new() -> Self {
        let micros = Histogram::new_with_max(MAX_LATENCY_US, LATENCY_DIGITS);
        Self { micros: micros.expect("the bounds are legal") }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.micros.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.micros.value_at_percentile(percent))
    }
}

/// The number of skipped files by reason; empty if there are none.
struct SkippedCounts<'a>(&'a [Skipped]);

impl Display for SkippedCounts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count =
            |is_kind: fn(&Reason) -> bool| self.0.iter().filter(|skipped| is_kind(&skipped.reason)).count();
        let kinds = [
            ("unreadable", count(|reason| matches!(reason, Reason::Unreadable(_)))),
            ("binary", count(|reason| matches!(reason, Reason::Binary))),
            ("with a long word", count(|reason| matches!(reason, Reason::LongWord { .. }))),
        ];
        let mut separator = "; skipped: ";
        for (name, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
            write!(f, "{separator}{count} {name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

fn table(header: &[&str], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header.iter().map(Cell::new));
    for &column in numbers {
        let column = table.column_mut(column).expect("it is one of the header's");
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cut(word: &str) -> String {
    match word.char_indices().nth(MAX_WORD_CHARS) {
        Some((end, _)) => format!("{}...", &word[..end]),
        None => word.to_owned(),
    }
}

/// Formats a number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_in_groups_of_three() {
        let shown = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn percentiles_are_those_of_the_latencies() {
        let mut latencies = Latencies::new();
        for ms in 1..=100 {
            latencies.record(Duration::from_millis(ms));
        }
        latencies.record(Duration::MAX);
        let p50 = latencies.percentile(50.0).as_millis();
        let p99 = latencies.percentile(99.0).as_millis();
        assert!((50..=52).contains(&p50) && (99..=101).contains(&p99), "{p50}, {p99}");
    }

    #[test]
    fn skipped_files_are_counted_by_reason() {
        let skipped = |reason| Skipped { path: "x".into(), reason };
        let all = [skipped(Reason::Binary), skipped(Reason::LongWord { limit: 1 }), skipped(Reason::Binary)];
        assert_eq!(SkippedCounts(&all).to_string(), "; skipped: 2 binary, 1 with a long word");
        assert_eq!(SkippedCounts(&[]).to_string(), "");
    }

    #[test]
    fn long_word_is_cut_between_characters() {
        assert_eq!(cut(&"\u{fc}".repeat(50)), format!("{}...", "\u{fc}".repeat(40)));
        assert_eq!(cut("word"), "word");
    }
}
