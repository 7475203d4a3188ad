//! The snapshot file: reads it, renames a damaged one, and writes it atomically, so that after a crash there is the
//! old file or the new one.
//!
//! When it is written is left to [`Snapshots`](super::snapshots::Snapshots).

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::error::OpenError;
use super::snapshot_lock::SnapshotLock;
use super::store::SavedStore;
use crate::wire::Timestamp;

/// The name of the format, which distinguishes snapshots from other JSON files.
const FORMAT: &str = "farcall-registry-snapshot";
/// The format's version, incremented when older registries cannot read it.
const VERSION: u32 = 1;
/// The maximum size of a snapshot, in bytes: 100,000 of the largest instances fit.
const MAX_BYTES: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct Document<S> {
    format: String,
    version: u32,
    written_at: Timestamp,
    #[serde(flatten)]
    saved: S,
}

/// Checks that there is a regular file, or a directory in which one can be created.
pub(super) fn check(file: &Path) -> Result<(), OpenError> {
    let checked = match fs::metadata(file) {
        Ok(metadata) => check_regular(&metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_directory(file),
        Err(error) => Err(error),
    };
    checked.map_err(|source| OpenError::Snapshot { path: file.to_owned(), source })
}

/// Reads the snapshot. `None` if there is none, or if it is damaged, in which case it is renamed.
pub(super) fn read(file: &Path) -> Result<Option<SavedStore>, OpenError> {
    let refuse = |source| OpenError::Snapshot { path: file.to_owned(), source };
    let bytes = match read_bytes(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return check_directory(file).map(|()| None).map_err(refuse);
        }
        Err(error) => return Err(refuse(error)),
    };
    match parse(&bytes) {
        Ok(saved) => Ok(Some(saved)),
        Err(error) => {
            let renamed = damaged_name(file);
            fs::rename(file, &renamed).map_err(refuse)?;
            warn!(
                snapshot = %file.display(), renamed = %renamed.display(), %error,
                "the snapshot is damaged: it was renamed, and the registry starts empty"
            );
            Ok(None)
        }
    }
}

/// Replaces the snapshot atomically, and locks what replaces it.
pub(super) fn write(file: &Path, saved: &SavedStore, lock: &mut SnapshotLock) -> io::Result<()> {
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
    let document =
        Document { format: FORMAT.to_owned(), version: VERSION, written_at: Timestamp::now(), saved };
    serde_json::to_writer(&mut writer, &document)?;
    writer.write_all(b"\n")?;
    writer.flush()?;
    // The content must be on disk before the name refers to it.
    writer.get_ref().sync_all()?;
    lock.check_owned(file).or_else(without_locks)?;
    fs::rename(&temporary, file)?;
    *lock = new_lock;
    File::open(directory(file))?.sync_all()
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

fn check_regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let reason = if metadata.is_dir() { "it is a directory" } else { "it is not a regular file" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// Parses a snapshot; the error is a message for the log.
fn parse(bytes: &[u8]) -> Result<SavedStore, String> {
    let document: Document<SavedStore> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if document.format != FORMAT {
        return Err(format!("its format is `{}` instead of `{FORMAT}`", document.format.escape_default()));
    }
    if document.version != VERSION {
        return Err(format!(
            "its version is {}, and this registry reads version {VERSION}",
            document.version
        ));
    }
    let mut saved = document.saved;
    for instance in &mut saved.instances {
        instance.registered = instance.registered.clone().check().map_err(|error| error.to_string())?;
    }
    Ok(saved)
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
mod tests {
    use super::*;

    fn saved() -> SavedStore {
        let instance = r#"{"registered":{"service":"A","addr":"10.0.0.1:7001"},
            "registered_at":"2031-04-05T06:07:08.009Z","last_seen":"2031-04-05T06:07:09.010Z"}"#;
        let mut saved =
            SavedStore { instances: vec![serde_json::from_str(instance).unwrap()], ..SavedStore::default() };
        saved.instances[0].registered.id = "tcp@10.0.0.1:7001".to_owned();
        saved
    }

    #[test]
    fn written_snapshot_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("registry.json");
        assert_eq!(read(&file).unwrap(), None);
        for saved in [SavedStore::default(), saved()] {
            write(&file, &saved, &mut SnapshotLock::default()).unwrap();
            assert_eq!(read(&file).unwrap(), Some(saved));
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn damaged_snapshot_is_renamed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("registry.json");
        write(&file, &saved(), &mut SnapshotLock::default()).unwrap();
        let whole = fs::read_to_string(&file).unwrap();
        let damages = [
            String::new(),
            "\0\0\0".to_owned(),
            "{}".to_owned(),
            whole[..whole.len() / 2].to_owned(),
            whole.replace(FORMAT, "another"),
            whole.replace("\"version\":1", "\"version\":2"),
            whole.replace("10.0.0.1:7001", "0.0.0.0:0"),
        ];
        for damaged in damages {
            assert_ne!(damaged, whole);
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("registry.json");
            fs::write(&file, &damaged).unwrap();
            assert_eq!(read(&file).unwrap(), None, "{damaged}");
            let left: Vec<_> =
                fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            let [renamed] = &*left else { panic!("{left:?}") };
            assert!(renamed.to_str().unwrap().contains("registry.json.damaged-2"));
            assert_eq!(fs::read_to_string(renamed).unwrap(), damaged);
        }
    }

    #[test]
    fn unusable_snapshot_is_an_error_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let device = PathBuf::from("/dev/zero");
        for file in [directory.path().to_owned(), directory.path().join("no/where.json"), device] {
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(file.to_str().unwrap()), "{error}");
        }
    }
}
