//! The progress of a job, shown on a terminal and on its page.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall::http::ProgressRow;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::input::{Skipped, shown};
use crate::report::say;

/// The interval of redrawing the bar between calls, so that its clock runs.
const TICK: Duration = Duration::from_millis(200);

/// A progress bar on stderr, if that is a terminal. Cloning is cheap, and clones share the bar.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// The bytes that each server has counted, by its address.
    servers: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Progress {
    /// Creates a bar for this number of calls, which is not shown before the [start](Self::start).
    pub(crate) fn new(calls: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(calls), ProgressDrawTarget::hidden());
        let template = "{bar:40} {human_pos}/{human_len} calls, {rate}, {elapsed}{msg}";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        bar.set_style(style.with_key("rate", |state: &ProgressState, f: &mut dyn fmt::Write| {
            // If the bar cannot be written, the error has no other place to go.
            let _ = write!(f, "{:.0}/s", state.per_sec());
        }));
        Self { bar, servers: Arc::default() }
    }

    /// Shows the bar, and starts its clock.
    pub(crate) fn start(&self) {
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.reset_elapsed();
        self.bar.enable_steady_tick(TICK);
    }

    /// Returns rows for a page: the calls, and what each server has counted.
    pub(crate) fn rows(&self) -> Vec<ProgressRow> {
        let calls = ProgressRow::new("calls answered", self.bar.position());
        let calls = calls.total(self.bar.length().unwrap_or_default());
        let servers = self.servers();
        let servers = servers.iter().map(|(server, bytes)| ProgressRow::new(server, *bytes).unit("bytes"));
        std::iter::once(calls).chain(servers).collect()
    }

    /// Counts an answered call.
    pub(crate) fn advance(&self) {
        self.bar.inc(1);
    }

    /// Shows how many bytes a server has counted so far, beside the others.
    pub(crate) fn counted(&self, server: String, bytes: u64) {
        let mut servers = self.servers();
        servers.insert(server, bytes);
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

    fn servers(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
