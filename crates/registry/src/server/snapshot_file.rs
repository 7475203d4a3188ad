//! The snapshot on disk: reading it, keeping a damaged one aside, writing it so that a crash leaves
//! the old one or the new one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::registry::OpenError;
use super::store::Saved;
use crate::wire::Timestamp;

/// What tells this file from others.
const FORMAT: &str = "farcall-registry-snapshot";
/// Grows when older registries could not read it.
const VERSION: u32 = 1;
/// A file that is larger is none of ours: 100,000 of the largest instances fit.
const MAX_BYTES: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct Document<S> {
    format: String,
    version: u32,
    written_at: Timestamp,
    #[serde(flatten)]
    saved: S,
}

/// Reads the snapshot. `None` where there is none, or a damaged one, which is put aside.
pub(super) fn read(file: &Path) -> Result<Option<Saved>, OpenError> {
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
        Err(why) => {
            let aside = damaged_name(file);
            fs::rename(file, &aside).map_err(refuse)?;
            warn!(
                snapshot = %file.display(), kept_as = %aside.display(), %why,
                "the snapshot is damaged: it is kept aside, and the registry starts empty"
            );
            Ok(None)
        }
    }
}

/// Puts a new snapshot in the place of the old one.
pub(super) fn write(file: &Path, saved: &Saved) -> io::Result<()> {
    let temporary = with_end(file, ".tmp");
    let mut writer = BufWriter::new(File::create(&temporary)?);
    let document =
        Document { format: FORMAT.to_owned(), version: VERSION, written_at: Timestamp::now(), saved };
    serde_json::to_writer(&mut writer, &document)?;
    writer.write_all(b"\n")?;
    writer.flush()?;
    // What is renamed must be on disk before its name is.
    writer.get_ref().sync_all()?;
    fs::rename(&temporary, file)?;
    File::open(directory(file))?.sync_all()
}

fn read_bytes(file: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(file)?.len();
    if size > MAX_BYTES {
        let why = format!("it has {size} bytes, and a snapshot has at most {MAX_BYTES}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    fs::read(file)
}

/// What is wrong is said as a sentence.
fn parse(bytes: &[u8]) -> Result<Saved, String> {
    let document: Document<Saved> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if document.format != FORMAT {
        return Err(format!("its format is `{}`, and not `{FORMAT}`", document.format.escape_default()));
    }
    if document.version != VERSION {
        return Err(format!("it is of version {}, and this registry reads {VERSION}", document.version));
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
        Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is no directory", directory.display())))
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
    with_end(file, &format!(".damaged-{time}"))
}

fn with_end(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let instance = r#"{"registered":{"service":"A","addr":"10.0.0.1:7001"},
            "registered_at":"2031-04-05T06:07:08.009Z","last_seen":"2031-04-05T06:07:09.010Z"}"#;
        let mut saved =
            Saved { instances: vec![serde_json::from_str(instance).unwrap()], ..Saved::default() };
        saved.instances[0].registered.id = "tcp@10.0.0.1:7001".to_owned();
        saved
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("registry.json");
        assert_eq!(read(&file).unwrap(), None);
        for saved in [Saved::default(), saved()] {
            write(&file, &saved).unwrap();
            assert_eq!(read(&file).unwrap(), Some(saved));
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_snapshot_is_kept_aside() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("registry.json");
        write(&file, &saved()).unwrap();
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
        for (count, damaged) in damages.iter().enumerate() {
            assert_ne!(*damaged, whole);
            fs::write(&file, damaged).unwrap();
            assert_eq!(read(&file).unwrap(), None, "{damaged}");
            assert!(!file.exists());
            let mut aside: Vec<_> =
                fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            aside.sort();
            assert_eq!(aside.len(), count + 1);
            assert!(aside[0].to_str().unwrap().contains("registry.json.damaged-2"));
            assert!(aside.iter().any(|file| fs::read_to_string(file).unwrap() == *damaged));
            // Names differ by milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    #[test]
    fn a_snapshot_that_cannot_be_used_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        for file in [directory.path().to_owned(), directory.path().join("no/where.json")] {
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(file.to_str().unwrap()), "{error}");
        }
    }
}
