//! Private parsers, opened to the project's fuzz targets. Each returns what it read as text, or the text of its error.

use crate::client::fuzzing as client;
use crate::server::fuzzing as server;

/// Decodes Server-Sent Events that arrive in these pieces, at most `limit` bytes each.
///
/// # Errors
///
/// An event is too long, or not UTF-8.
pub fn events(pieces: &[&[u8]], limit: usize) -> Result<Vec<String>, String> {
    client::events(pieces, limit)
}

/// Decodes a list of the full interface.
///
/// # Errors
///
/// The body is no list of this service.
pub fn full_list(body: &[u8], service: &str) -> Result<String, String> {
    client::full_list(body, service)
}

/// Decodes the event `put` of a watch.
///
/// # Errors
///
/// The data is no such event of this service.
pub fn put(data: &[u8], service: &str) -> Result<String, String> {
    client::put(data, service)
}

/// Decodes the event `delete` of a watch.
///
/// # Errors
///
/// The data is no such event of this service.
pub fn delete(data: &[u8], service: &str) -> Result<String, String> {
    client::delete(data, service)
}

/// Parses a snapshot file. Returns the number of its instances.
///
/// # Errors
///
/// The bytes are no snapshot.
pub fn snapshot(bytes: &[u8]) -> Result<usize, String> {
    server::snapshot(bytes)
}
