//! The wording of stream errors.

use std::io;

/// Describes what a stream's error says about the other side, as the end of a sentence.
pub(super) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "it broke the connection".to_owned(),
        _ => error.to_string(),
    }
}
