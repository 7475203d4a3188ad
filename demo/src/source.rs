//! A thread that reads the files ahead of the calls, and counts their words locally.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{self, JoinHandle};

use crate::count::{Counts, count_locally, merge};
use crate::input::{self, Skipped, Terms};
use crate::progress::Progress;

/// The number of files that are read ahead: few, because each may be as large as a frame.
const READ_AHEAD: usize = 8;

/// A file to send.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// The local counts of the text.
    pub(crate) counts: Counts,
}

/// The expected totals of the calls, counted locally.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) calls: u64,
    pub(crate) counts: Counts,
    pub(crate) skipped: Vec<Skipped>,
}

/// Starts to read. The channel closes after the last file; the task ends then, or when the receiver
/// is dropped.
pub(crate) fn read_ahead(
    files: Vec<PathBuf>,
    repeat: u64,
    terms: Terms,
    progress: Progress,
) -> (mpsc::Receiver<Arc<Source>>, JoinHandle<Expected>) {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let task = task::spawn_blocking(move || {
        let mut expected = Expected::default();
        for path in files {
            match input::read(&path, &terms) {
                Ok(text) => {
                    let counts = count_locally(&text);
                    expected.add(&text, &counts, repeat);
                    if sender.blocking_send(Arc::new(Source { path, text, counts })).is_err() {
                        break;
                    }
                }
                Err(reason) => {
                    let skipped = Skipped { path, reason };
                    progress.skip(&skipped, repeat);
                    expected.skipped.push(skipped);
                }
            }
        }
        expected
    });
    (receiver, task)
}

impl Expected {
    fn add(&mut self, text: &str, counts: &Counts, repeat: u64) {
        self.files += 1;
        self.bytes += text.len() as u64 * repeat;
        self.calls += repeat;
        merge(&mut self.counts, counts, repeat);
    }
}
