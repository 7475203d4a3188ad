//! Reading small files whole: [`read_file`], [`FileContent`], [`FileError`]. When they are read is left
//! to [`crate::Reloaded`] and to the callers.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file and its content.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileContent {
    /// The path by which it was read.
    pub path: PathBuf,
    /// All of its bytes.
    pub bytes: Vec<u8>,
}

/// A file that cannot be read or used. The text names it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the file {} {what}", path.display())]
pub struct FileError {
    path: PathBuf,
    what: String,
    cause: Option<Arc<io::Error>>,
}

impl FileContent {
    /// Creates the content of a file, as if it had been read.
    pub fn new(path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), bytes: bytes.into() }
    }
}

/// Never shows the content: it may be a key.
impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileContent({}, {} bytes)", self.path.display(), self.bytes.len())
    }
}

impl FileError {
    /// Creates an error about a file; `what` is the rest of the sentence, such as `has no token in it`.
    pub fn new(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into(), cause: None }
    }

    fn unreadable(path: &Path, error: io::Error) -> Self {
        Self { path: path.to_owned(), what: format!("cannot be read: {error}"), cause: Some(Arc::new(error)) }
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what is wrong with it, as the rest of a sentence that begins with the file.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.what
    }

    /// Returns the system's error, whose text is part of this one's; `None` if the file can be read, and not be used.
    #[must_use]
    pub fn cause(&self) -> Option<&io::Error> {
        self.cause.as_deref()
    }
}

/// Two errors are equal if they have the same text about the same file.
impl PartialEq for FileError {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.what) == (&other.path, &other.what)
    }
}

impl Eq for FileError {}

/// Reads a regular file of at most `max_bytes`. Blocks.
///
/// # Errors
///
/// The file cannot be read, is larger, or is not a regular file: a named pipe would keep the reader
/// waiting.
pub fn read_file(path: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    let unreadable = |error| FileError::unreadable(path, error);
    // Checked before opening: opening a named pipe waits for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(FileError::new(path, "is not a regular file"));
    }
    let mut bytes = Vec::new();
    // A byte more than allowed shows that it is too large, however much it has grown since.
    let limit = max_bytes.saturating_add(1);
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > max_bytes {
        return Err(FileError::new(path, format!("is larger than {max_bytes} bytes, the maximum")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let error = read_file(&path, 10).unwrap_err();
        assert!(error.to_string().starts_with(&format!("the file {} cannot be read: ", path.display())));
        assert_eq!(error.path(), path);
        assert_eq!(error.cause().unwrap().kind(), io::ErrorKind::NotFound);
        assert_eq!(read_file(folder.path(), 10).unwrap_err().reason(), "is not a regular file");
    }

    #[test]
    fn content_is_never_shown() {
        assert_eq!(format!("{:?}", FileContent::new("/k", "hush")), "FileContent(/k, 4 bytes)");
    }

    #[test]
    fn errors_are_equal_if_they_say_the_same_of_the_same_file() {
        let error = || FileError::new("/k", "has no token in it");
        assert_eq!(error(), error());
        assert_ne!(error(), FileError::new("/k", "has no number in it"));
        assert_ne!(error(), FileError::new("/l", "has no token in it"));
        assert!(error().cause().is_none());
    }

    #[test]
    fn files_are_read_up_to_their_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(read_file(&path, 10).unwrap(), b"0123456789");
        assert_eq!(read_file(&path, 9).unwrap_err().reason(), "is larger than 9 bytes, the maximum");
    }
}
