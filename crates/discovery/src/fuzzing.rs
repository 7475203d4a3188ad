//! Private parsers, opened to the project's fuzz targets.

use crate::endpoint::Endpoint;
use crate::file::read_list;

/// Parses a file of endpoints. The error is its text.
///
/// # Errors
///
/// The bytes are no list.
pub fn endpoint_file(bytes: &[u8]) -> Result<Vec<Endpoint>, String> {
    read_list(bytes).map_err(|error| error.to_string())
}
