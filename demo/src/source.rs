//! A thread that reads the files ahead of the calls, and counts them on the spot.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{self, JoinHandle};

use crate::count::{Counts, count_locally, merge};
use crate::input::{self, Skipped, Terms};
use crate::progress::Progress;

/// Files that are read before there is a call for them: few, since each may be as large as a
/// frame.
const READ_AHEAD: usize = 8;

/// A file that is to be sent.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// The words of the text, counted here.
    pub(crate) counts: Counts,
}

/// What the calls must come to, as it was counted here.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) calls: u64,
    pub(crate) counts: Counts,
    pub(crate) skipped: Vec<Skipped>,
}

/// Begins to read. The channel ends with the files; the task ends then, or when nobody takes them
/// any more.
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
