//! The progress of a job, shown on a terminal.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressState, ProgressStyle};

use crate::input::{Skipped, shown};
use crate::report::say;

/// The interval of redrawing the bar between calls, so that its clock runs.
const TICK: Duration = Duration::from_millis(200);

/// A progress bar on stderr, if that is a terminal. Cloning is cheap, and clones share the bar.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Creates a bar for this number of calls.
    pub(crate) fn new(calls: u64) -> Self {
        let bar = ProgressBar::new(calls);
        let template = "{bar:40} {human_pos}/{human_len} calls, {rate}, {elapsed}{msg}";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        bar.set_style(style.with_key("rate", |state: &ProgressState, f: &mut dyn fmt::Write| {
            // If the bar cannot be written, the error has no other place to go.
            let _ = write!(f, "{:.0}/s", state.per_sec());
        }));
        bar.enable_steady_tick(TICK);
        Self { bar }
    }

    /// Counts an answered call.
    pub(crate) fn advance(&self) {
        self.bar.inc(1);
    }

    /// Shows how many bytes each server has counted, a line for each.
    pub(crate) fn counted(&self, servers: &BTreeMap<String, u64>) {
        let lines = servers.iter().fold(String::new(), |mut lines, (server, bytes)| {
            let _ = write!(lines, "\n  {server}: {}", HumanBytes(*bytes));
            lines
        });
        self.bar.set_message(lines);
    }

    /// Reports a skipped file, and removes its calls from the total.
    pub(crate) fn skip(&self, skipped: &Skipped, calls: u64) {
        self.bar.dec_length(calls);
        self.bar.suspend(|| eprintln!("skipped {}: {}", shown(&skipped.path), skipped.reason));
    }

    /// Prints a line above the bar.
    pub(crate) fn print(&self, line: impl fmt::Display) {
        // If stdout is closed, printing the report fails as well, and reports that.
        let _ = self.bar.suspend(|| say(line));
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
