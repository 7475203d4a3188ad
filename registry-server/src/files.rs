//! Reads small files and environment variables.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use crate::error::{ServerError, TokenError};

/// The maximum size of a file, in bytes: a chain of certificates is far smaller.
const MAX_BYTES: u64 = 1024 * 1024;
/// The interval between checks of files for changes. They are small; comparing their content is more reliable than their
/// modification times, which links and copies can preserve.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Reads a whole file. It must be a regular file of at most 1 MiB, because reading a pipe could block without limit.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let refuse = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    // Checked before it is opened, because opening a pipe waits for a writer.
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return refuse("it is a directory");
    }
    if !metadata.is_file() {
        return refuse("it is not a regular file");
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return refuse("it has more than 1 MiB");
    }
    Ok(bytes)
}

/// Returns an environment variable with a token; `None` if it is not set or empty.
pub(crate) fn token_variable(name: &str) -> Result<Option<String>, ServerError> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(ServerError::Token {
            origin: format!("the environment variable {name}"),
            error: TokenError::NotUtf8,
        }),
    }
}
