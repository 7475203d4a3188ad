//! The snapshot file: a document with all instances, and after it a line for each change since. Reads it, renames a
//! damaged one, replaces it atomically, and appends to it.
//!
//! When it is written is left to [`Snapshots`](super::snapshots::Snapshots); its lines to
//! [`snapshot_lines`](super::snapshot_lines).

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use farcall_protocol::text::parse_error;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;
use tracing::warn;

use super::error::OpenError;
use super::snapshot_lines::{self, Lines};
use super::snapshot_lock::SnapshotLock;
use super::store::{SavedInstance, SavedStore};
use crate::excerpt::excerpt;
use crate::wire::Timestamp;

/// The name of the format, which distinguishes snapshots from other JSON files.
const FORMAT: &str = "farcall-registry-snapshot";
/// The format's version, incremented when older registries cannot read it. Version 1 has no lines after the document.
const VERSION: u32 = 2;
/// The bytes in which format and version stand.
const MAX_HEADER_BYTES: usize = 256;
/// The maximum size of a snapshot, in bytes: 100,000 of the largest instances fit, and as much again of changes.
const MAX_BYTES: u64 = 1 << 30;
/// The size of the changes, in bytes, up to which a small document is not written again.
const MIN_CHANGES_BYTES: u64 = 1 << 20;

/// The beginning of the document. What follows in newer versions is not read.
#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u64,
}

/// The reason why a snapshot cannot be parsed.
#[derive(Debug)]
pub(super) enum ParseError {
    /// Damage. The text names the cause.
    Damaged(String),
    /// A version newer than those that can be read.
    Newer(u64),
}

/// A part of a document that is being written.
#[derive(Debug)]
pub(super) enum Part {
    Instances(Vec<SavedInstance>),
    /// All instances were sent. Without it the file is not replaced.
    End,
}

/// A file that was written, to which changes can be appended.
#[derive(Debug)]
pub(super) struct Written {
    /// The file's identity: another file in its place is not appended to.
    identity: (u64, u64),
    /// The size of the document, in bytes.
    document: u64,
    /// The size of the whole file.
    size: u64,
}

/// Checks that there is a regular file, or a directory in which one can be created.
pub(super) fn check(file: &Path) -> Result<(), OpenError> {
    let checked = match fs::metadata(file) {
        Ok(metadata) => check_regular(&metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_directory(file),
        Err(error) => Err(error),
    };
    checked.map_err(|error| OpenError::Snapshot { path: file.to_owned(), error })
}

/// Reads the snapshot. `None` if there is none, or if it is damaged, in which case it is renamed. One of a newer version is
/// refused, and left as it is: the registry that has written it may be started again.
pub(super) fn read(file: &Path) -> Result<Option<SavedStore>, OpenError> {
    let refuse = |error| OpenError::Snapshot { path: file.to_owned(), error };
    let bytes = match read_bytes(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return check_directory(file).map(|()| None).map_err(refuse);
        }
        Err(error) => return Err(refuse(error)),
    };
    let set_aside = |error: &str, outcome: &str| {
        let renamed = damaged_name(file);
        fs::rename(file, &renamed).map_err(refuse)?;
        warn!(
            snapshot = %file.display(), renamed = %renamed.display(), error,
            "the snapshot is damaged: it was renamed, and {outcome}"
        );
        Ok(())
    };
    match parse(&bytes) {
        Ok((saved, Lines::Whole)) => Ok(Some(saved)),
        Ok((saved, Lines::CutOff)) => {
            warn!(snapshot = %file.display(), "the last changes in the snapshot were cut off by a crash, and are lost");
            Ok(Some(saved))
        }
        Ok((saved, Lines::Damaged(error))) => {
            set_aside(&error, "the registry starts with what stands before the damage")?;
            // Later changes are lost, so that the lists may be incomplete.
            Ok(Some(SavedStore { warming: true, ..saved }))
        }
        Err(ParseError::Damaged(error)) => set_aside(&error, "the registry starts empty").map(|()| None),
        Err(ParseError::Newer(version)) => {
            Err(OpenError::SnapshotVersion { path: file.to_owned(), version, supported: VERSION })
        }
    }
}

/// Replaces the snapshot atomically, with the instances of all parts, and locks what replaces it. `header` has the other
/// fields.
pub(super) fn replace(
    file: &Path,
    header: &SavedStore,
    parts: &mut Receiver<Part>,
    lock: &mut SnapshotLock,
) -> io::Result<Written> {
    let temporary = with_suffix(file, ".tmp");
    // Creating a file that is a named pipe would wait for a reader.
    if let Ok(metadata) = fs::symlink_metadata(&temporary) {
        check_regular(&metadata)?;
    }
    // Not truncated before it is locked: it may be another registry's.
    let created = OpenOptions::new().write(true).create(true).truncate(false).open(&temporary)?;
    let new_lock = SnapshotLock::of_new(&created).or_else(without_locks)?;
    created.set_len(0)?;
    let mut writer = BufWriter::new(created);
    let (format, version) = (FORMAT.to_owned(), VERSION.into());
    let begin = serde_json::to_string(&Header { format, version })?;
    let (written_at, kept) =
        (serde_json::to_string(&Timestamp::now())?, serde_json::to_string(&header.expired_overrides)?);
    let (begin, warming) = (begin.trim_end_matches('}'), header.warming);
    write!(writer, r#"{begin},"written_at":{written_at},"warming":{warming},"kept":{kept},"instances":["#)?;
    let mut first = true;
    loop {
        match parts.blocking_recv() {
            Some(Part::Instances(instances)) => {
                for instance in instances {
                    if !std::mem::take(&mut first) {
                        writer.write_all(b",")?;
                    }
                    serde_json::to_writer(&mut writer, &instance)?;
                }
            }
            Some(Part::End) => break,
            None => return Err(io::Error::other("writing was given up")),
        }
    }
    writer.write_all(b"]}\n")?;
    writer.flush()?;
    // The content must be on disk before the name refers to it.
    writer.get_ref().sync_all()?;
    let metadata = writer.get_ref().metadata()?;
    lock.check_owned(file).or_else(without_locks)?;
    fs::rename(&temporary, file)?;
    *lock = new_lock;
    File::open(directory(file))?.sync_all()?;
    Ok(Written { identity: identity(&metadata), document: metadata.len(), size: metadata.len() })
}

impl Written {
    /// Returns `true` if the changes take more than the document: then it is written again, so that all in all at most
    /// a few times as many bytes are written as change.
    pub(super) fn is_full(&self) -> bool {
        self.size - self.document >= self.document.max(MIN_CHANGES_BYTES)
    }

    /// Appends changes, and waits until they are on disk; `false` if the file is no longer the one that was written, and
    /// must be replaced.
    pub(super) fn append(&mut self, file: &Path, lines: &[u8]) -> io::Result<bool> {
        let mut opened = match OpenOptions::new().append(true).open(file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let metadata = opened.metadata()?;
        if (identity(&metadata), metadata.len()) != (self.identity, self.size) {
            return Ok(false);
        }
        let written = opened.write_all(lines).and_then(|()| opened.sync_data());
        if let Err(error) = written {
            // The next changes must not follow half of these. If this fails, too, the size tells.
            let _ = opened.set_len(self.size);
            return Err(error);
        }
        self.size += lines.len() as u64;
        Ok(true)
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

/// Goes on without a lock where the file system has none, which was logged at the start.
fn without_locks<T: Default>(error: io::Error) -> io::Result<T> {
    if error.kind() == io::ErrorKind::Unsupported { Ok(T::default()) } else { Err(error) }
}

fn read_bytes(file: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a named pipe waits for a writer, and a device may never end.
    let metadata = fs::metadata(file)?;
    check_regular(&metadata)?;
    let too_large = |size| {
        let error = format!("it has {size} bytes, and a snapshot has at most {MAX_BYTES}");
        Err(io::Error::new(io::ErrorKind::FileTooLarge, error))
    };
    if metadata.len() > MAX_BYTES {
        return too_large(metadata.len());
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES { too_large(bytes.len() as u64) } else { Ok(bytes) }
}

fn check_regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let reason = if metadata.is_dir() { "it is a directory" } else { "it is not a regular file" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// Parses a snapshot.
pub(super) fn parse(bytes: &[u8]) -> Result<(SavedStore, Lines), ParseError> {
    parse_known(bytes).map_err(|error| match newer_version(bytes) {
        Some(version) => ParseError::Newer(version),
        None => ParseError::Damaged(error),
    })
}

/// Returns the version of a snapshot if it is newer than those that can be read, whatever follows it in the document.
fn newer_version(bytes: &[u8]) -> Option<u64> {
    let beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_HEADER_BYTES)]);
    let fields = beginning.trim_start().strip_prefix('{')?;
    let (format, rest) = fields.split_once(',')?;
    let (version, _) = rest.split_once([',', '}'])?;
    let header: Header = serde_json::from_str(&format!("{{{format},{version}}}")).ok()?;
    (header.format == FORMAT && header.version > VERSION.into()).then_some(header.version)
}

/// Parses a snapshot of a known version; the error is a message for the log.
fn parse_known(bytes: &[u8]) -> Result<(SavedStore, Lines), String> {
    let mut headers = serde_json::Deserializer::from_slice(bytes).into_iter::<Header>();
    let header = headers.next().ok_or("it is empty")?.map_err(|error| parse_error(&error))?;
    let (document, rest) = bytes.split_at(headers.byte_offset());
    if header.format != FORMAT {
        return Err(format!("its format is `{}` instead of `{FORMAT}`", excerpt(&header.format)));
    }
    if !(1..=VERSION.into()).contains(&header.version) {
        return Err(format!(
            "its version is {}, and this registry reads versions 1 to {VERSION}",
            header.version
        ));
    }
    if header.version == 1 && !rest.trim_ascii().is_empty() {
        return Err("there is more after its end".to_owned());
    }
    let mut saved: SavedStore = serde_json::from_slice(document).map_err(|error| parse_error(&error))?;
    for instance in &mut saved.instances {
        instance.registered = instance.registered.clone().check().map_err(|error| error.to_string())?;
    }
    Ok(snapshot_lines::apply(saved, rest.trim_ascii_start()))
}

fn check_directory(file: &Path) -> io::Result<()> {
    let directory = directory(file);
    if fs::metadata(&directory)?.is_dir() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is not a directory", directory.display()),
        ))
    }
}

fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn damaged_name(file: &Path) -> PathBuf {
    let time = humantime::format_rfc3339_millis(SystemTime::from(Timestamp::now()));
    with_suffix(file, &format!(".damaged-{time}"))
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
