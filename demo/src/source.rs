//! A thread that reads the files ahead of the calls, and counts their words locally.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{self, JoinHandle};

use crate::count::{Counts, count_locally, merge};
use crate::input::{self, Reason, Skipped, Terms};
use crate::pieces::count_file;
use crate::progress::Progress;

/// The number of files that are read ahead: few, because each may be as large as a frame.
const READ_AHEAD: usize = 8;

/// A file to send.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// The text; `None` if it does not fit into one call, so that the file is sent in pieces.
    pub(crate) text: Option<String>,
    /// The length of the text in bytes.
    pub(crate) bytes: u64,
    /// The local counts of the text.
    pub(crate) counts: Counts,
}

impl Source {
    /// Reads a file and counts its words.
    ///
    /// # Errors
    ///
    /// The reason to skip it.
    fn read(path: PathBuf, terms: &Terms) -> Result<Self, Skipped> {
        let read = || {
            Ok(match input::read(&path, terms)? {
                Some(text) => (text.len() as u64, count_locally(&text), Some(text)),
                None => {
                    let (bytes, counts) = count_file(&path, terms.max_piece())?;
                    (bytes, counts, None)
                }
            })
        };
        match read() {
            Ok((bytes, counts, text)) => Ok(Self { path, text, bytes, counts }),
            Err::<_, Reason>(reason) => Err(Skipped { path, reason }),
        }
    }
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
            match Source::read(path, &terms) {
                Ok(source) => {
                    expected.add(&source, repeat);
                    if sender.blocking_send(Arc::new(source)).is_err() {
                        break;
                    }
                }
                Err(skipped) => {
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
    fn add(&mut self, source: &Source, repeat: u64) {
        self.files += 1;
        self.bytes += source.bytes * repeat;
        self.calls += repeat;
        merge(&mut self.counts, &source.counts, repeat);
    }
}
