//! [`Ledger`]: the calls that handlers have begun, in a file, which outlives servers that are killed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The servers' side of the ledger.
pub(super) struct Ledger(Mutex<File>);

impl Ledger {
    /// Opens the ledger, which several servers may write.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(File::options().create(true).append(true).open(path)?)))
    }

    /// Records that the call with this number has begun. One write of 8 bytes, which is not torn.
    pub(super) fn begun(&self, call: u64) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&call.to_le_bytes())
    }
}

/// Reads how often each call has begun.
pub(super) fn read(path: &Path) -> io::Result<HashMap<u64, u32>> {
    let mut begun = HashMap::new();
    for number in std::fs::read(path)?.as_chunks::<8>().0 {
        *begun.entry(u64::from_le_bytes(*number)).or_default() += 1;
    }
    Ok(begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        for call in [7, 300, 7] {
            Ledger::open(&path).unwrap().begun(call).unwrap();
        }
        assert_eq!(read(&path).unwrap(), HashMap::from([(7, 2), (300, 1)]));
    }
}
