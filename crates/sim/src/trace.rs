//! [`Trace`]: what happened in a simulation, and when, in a text that is the same for the same seed.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The events of a simulation, line by line. Cloning is cheap, and clones share the lines.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug)]
struct Lines {
    begin: Instant,
    text: String,
    /// The number of writes to the network, and a hash of when and what they were.
    writes: u64,
    hash: u64,
}

/// FNV-1a, which the same bytes give the same value everywhere.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

impl Trace {
    /// Begins a trace at this moment.
    pub(crate) fn new() -> Self {
        let lines = Lines { begin: Instant::now(), text: String::new(), writes: 0, hash: FNV_OFFSET };
        Self { lines: Arc::new(Mutex::new(lines)) }
    }

    /// Adds a line.
    pub(crate) fn note(&self, event: fmt::Arguments<'_>) {
        let mut lines = self.lock();
        let time = lines.begin.elapsed();
        // Writing to a `String` cannot fail.
        let _ = writeln!(lines.text, "{:>4}.{:03} {event}", time.as_secs(), time.subsec_millis());
    }

    /// Counts a write to the network.
    pub(crate) fn wrote(&self, connection: u64, bytes: &[u8]) {
        let mut lines = self.lock();
        lines.writes += 1;
        let time = u64::try_from(lines.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut hash = lines.hash;
        for byte in time.to_le_bytes().iter().chain(&connection.to_le_bytes()).chain(bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
        lines.hash = hash;
    }

    /// Returns the text.
    pub(crate) fn text(&self) -> String {
        let lines = self.lock();
        format!("{}{} writes to the network, hash {:016x}\n", lines.text, lines.writes, lines.hash)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
