//! How far the job is, shown on a terminal.

use std::fmt;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::input::{Skipped, shown};
use crate::report::say;

/// How often the bar is drawn while nothing happens, so that its clock runs.
const TICK: Duration = Duration::from_millis(200);

/// A bar on stderr, where that is a terminal. Cloning is cheap, and clones share the bar.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for so many calls.
    pub(crate) fn new(calls: u64) -> Self {
        let bar = ProgressBar::new(calls);
        let template = "{bar:40} {human_pos}/{human_len} calls, {rate}, {elapsed}";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        bar.set_style(style.with_key("rate", |state: &ProgressState, f: &mut dyn fmt::Write| {
            // Where the bar cannot be written to, there is nobody to tell.
            let _ = write!(f, "{:.0}/s", state.per_sec());
        }));
        bar.enable_steady_tick(TICK);
        Self { bar }
    }

    /// A call was answered.
    pub(crate) fn advance(&self) {
        self.bar.inc(1);
    }

    /// Names a file that is skipped, with the calls that it would have been.
    pub(crate) fn skip(&self, skipped: &Skipped, calls: u64) {
        self.bar.dec_length(calls);
        self.bar.suspend(|| eprintln!("skipped {}: {}", shown(&skipped.path), skipped.reason));
    }

    /// Prints a line beside the bar.
    pub(crate) fn tell(&self, line: impl fmt::Display) {
        // Where it cannot be written, the report cannot either, and says so.
        let _ = self.bar.suspend(|| say(line));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
