//! The input of a job: its files and their text. Files that cannot be sent are
//! skipped, with a reason. [`crate::source`] counts them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::bail;
use farcall::protocol::{Codec, EscapedText};
use ignore::{DirEntry, WalkBuilder};
use serde::Serialize;

/// The divisor of the frame limit below which a text fits in every encoding, with its quotes and its
/// name: JSON encodes a control character, one byte of text, in six bytes.
const MAX_EXPANSION: usize = 8;

/// The files that were found, sorted and without duplicates, and those that were skipped.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) skipped: Vec<Skipped>,
}

/// A file that is not sent.
#[derive(Debug)]
pub(crate) struct Skipped {
    pub(crate) path: PathBuf,
    pub(crate) reason: Reason,
}

/// The reason for skipping a file.
#[derive(Debug)]
pub(crate) enum Reason {
    /// The file cannot be read, or is not a regular file.
    Unreadable(String),
    /// The file is not UTF-8, or contains a NUL.
    Binary,
    /// The file is sent in pieces, and a server would have to hold a word of more than `limit` bytes.
    LongWord { limit: usize },
}

/// The encoding of calls and their size limit.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// The codec of the arguments.
    pub(crate) codec: Codec,
    /// The largest frame that every server accepts, in bytes.
    pub(crate) max_frame_bytes: usize,
}

impl Terms {
    /// Returns the size of a piece of a text that fits in every encoding, in bytes.
    pub(crate) const fn max_piece(&self) -> usize {
        self.max_frame_bytes / MAX_EXPANSION
    }
}

impl Found {
    /// Searches directories for files, and takes files as they are.
    pub(crate) fn search(roots: &[PathBuf]) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for root in roots {
            // A mistyped name is an error, not a skipped file.
            match root.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    bail!("--input {}: {error}", shown(root));
                }
                Ok(_) | Err(_) => found.walk(root),
            }
        }
        found.files.sort_unstable();
        found.files.dedup();
        Ok(found)
    }

    fn walk(&mut self, root: &Path) {
        // Hidden files count as well, and .gitignore is respected in a copy without .git.
        let mut walk = WalkBuilder::new(root);
        walk.hidden(false).require_git(false).filter_entry(is_searched);
        for entry in walk.build() {
            match entry {
                Ok(entry) => self.add(entry, root),
                Err(error) => self.skipped.push(unreadable(root, &error)),
            }
        }
    }

    fn add(&mut self, entry: DirEntry, root: &Path) {
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        // A path that was given by name is always tried, and reading it reports an error. Links in a
        // directory are skipped, because their targets would count twice.
        if is_file || (entry.depth() == 0 && !root.is_dir()) {
            self.files.push(entry.into_path());
        }
    }
}

/// Returns the directory of farcall's sources, if this program was built from them and they still
/// exist; otherwise the current directory.
pub(crate) fn default_root() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    match workspace {
        Some(root) if root.join("Cargo.toml").is_file() => root.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Reads the text of a file; `None` if it does not fit into a frame that the servers accept, so that it has to be sent in
/// pieces.
///
/// # Errors
///
/// The reason to skip it.
pub(crate) fn read(path: &Path, terms: &Terms) -> Result<Option<String>, Reason> {
    let limit = terms.max_frame_bytes;
    let mut bytes = Vec::new();
    // One byte more than the limit shows that the file is too large, whatever its metadata says.
    open(path)
        .and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| Reason::Unreadable(error.to_string()))?;
    if bytes.len() > limit {
        return Ok(None);
    }
    if bytes.contains(&0) {
        return Err(Reason::Binary);
    }
    let text = String::from_utf8(bytes).map_err(|_| Reason::Binary)?;
    Ok(fits(&text, terms).then_some(text))
}

/// Returns a path with control characters escaped, for display.
pub(crate) fn shown(path: &Path) -> String {
    EscapedText(&path.to_string_lossy()).to_string()
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "unreadable: {}", EscapedText(error)),
            Self::Binary => f.write_str("binary"),
            Self::LongWord { limit } => write!(f, "a word of more than {limit} bytes"),
        }
    }
}

/// Opens a regular file. Other kinds may be endless, or block when opened, as a pipe without a writer.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(path)
}

fn fits(text: &str, terms: &Terms) -> bool {
    #[derive(Serialize)]
    struct Arguments<'a> {
        text: &'a str,
    }
    if text.len() <= terms.max_piece() {
        return true;
    }
    let encoded = terms.codec.encode(&Arguments { text });
    encoded.is_ok_and(|body| body.len() <= terms.max_frame_bytes)
}

fn is_searched(entry: &DirEntry) -> bool {
    let is_dir = entry.file_type().is_some_and(|kind| kind.is_dir());
    entry.depth() == 0 || !is_dir || (entry.file_name() != ".git" && entry.file_name() != "target")
}

/// Returns the entry for an error of the walk, whose text names the path.
fn unreadable(root: &Path, error: &ignore::Error) -> Skipped {
    Skipped { path: root.to_owned(), reason: Reason::Unreadable(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn terms(codec: Codec, max_frame_bytes: usize) -> Terms {
        Terms { codec, max_frame_bytes }
    }

    fn read_bytes(bytes: &[u8], terms: &Terms) -> Result<Option<String>, Reason> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        read(&path, terms)
    }

    #[test]
    fn ignored_files_and_build_output_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for name in ["b.md", "src/a.rs", ".ci/run", "target/x.rs", ".git/config", "ignored.log"] {
            file(name, "text");
        }
        file(".gitignore", "*.log\n");
        let root = dir.path().to_owned();
        let found = Found::search(&[root.clone(), root.join("b.md")]).unwrap();
        let names: Vec<_> = found.files.iter().map(|path| path.strip_prefix(&root).unwrap()).collect();
        assert_eq!(names, [".ci/run", ".gitignore", "b.md", "src/a.rs"].map(Path::new));
        assert!(found.skipped.is_empty());
    }

    #[test]
    fn missing_input_is_an_error() {
        let error = Found::search(&[PathBuf::from("/nowhere/at/all")]).unwrap_err();
        assert!(error.to_string().starts_with("--input /nowhere/at/all: "), "{error}");
    }

    #[test]
    fn invalid_utf8_and_nul_are_binary() {
        let terms = terms(Codec::MessagePack, 1000);
        assert_eq!(read_bytes("\u{fc}".as_bytes(), &terms).unwrap().unwrap(), "\u{fc}");
        assert!(matches!(read_bytes(b"a\0b", &terms), Err(Reason::Binary)));
        assert!(matches!(read_bytes(b"a\xff", &terms), Err(Reason::Binary)));
    }

    #[test]
    fn text_fits_if_its_encoded_arguments_do() {
        // The map, its key, and the text's length take 1 + 5 + 3 bytes before the text.
        let msgpack = terms(Codec::MessagePack, 1000);
        assert!(read_bytes(&[b'a'; 991], &msgpack).unwrap().is_some());
        assert_eq!(read_bytes(&[b'a'; 992], &msgpack).unwrap(), None);
        assert_eq!(read_bytes(&[b'a'; 5000], &msgpack).unwrap(), None);
        let json = terms(Codec::Json, 1000);
        assert!(read_bytes(&[1; 160], &json).unwrap().is_some());
        assert_eq!(read_bytes(&[1; 170], &json).unwrap(), None);
    }

    #[test]
    fn devices_are_not_opened() {
        let Err(Reason::Unreadable(error)) = read(Path::new("/dev/zero"), &terms(Codec::Json, 10)) else {
            panic!("it was read");
        };
        assert_eq!(error, "not a regular file");
    }
}
