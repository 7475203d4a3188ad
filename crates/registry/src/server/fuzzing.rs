//! The server's parsers, for [`crate::fuzzing`].

use super::snapshot_file;

pub(crate) fn snapshot(bytes: &[u8]) -> Result<usize, String> {
    snapshot_file::parse(bytes).map(|(saved, _)| saved.instances.len())
}
