//! The server's parsers, for [`crate::fuzzing`].

use super::snapshot_file;

pub(crate) fn snapshot(bytes: &[u8]) -> Result<usize, String> {
    let parsed = snapshot_file::parse(bytes).map_err(|error| format!("{error:?}"));
    parsed.map(|(saved, _)| saved.instances.len())
}
