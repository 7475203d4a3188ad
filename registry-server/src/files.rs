//! Reading small files and environment variables.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::failure::Failure;

/// The largest file that is read: a chain of certificates is far smaller.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads a file whole. It must be a plain file of at most 1 MiB: a pipe could keep the reader for ever.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let refuse = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    // Looked at before it is opened: opening a pipe waits for a writer.
    let about = std::fs::metadata(path)?;
    if about.is_dir() {
        return refuse("it is a directory");
    }
    if !about.is_file() {
        return refuse("it is not a plain file");
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return refuse("it has more than 1 MiB");
    }
    Ok(bytes)
}

/// An environment variable; one that is empty counts as not set.
pub(crate) fn variable(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::Token {
            place: format!("the environment variable {name}"),
            what: "it is not UTF-8".to_owned(),
        }),
    }
}
