//! The cache of what servers and registries have said, in the user's folder for caches, for [`LIFETIME`].

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, process};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The time for which an answer counts: presses of a key in a row ask once, and a new method is there soon.
const LIFETIME: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The age from which files are removed, so that the folder does not grow with each target.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// Returns the key of the answer of a target, which also depends on the folder if files are relative to it.
pub(super) fn key(target: &[String], service: Option<&str>) -> String {
    let mut hasher = DefaultHasher::new();
    (target, service, env::current_dir().ok()).hash(&mut hasher);
    format!("{:016x}.json", hasher.finish())
}

/// Returns an answer, unless it is too old.
pub(super) fn load<T: DeserializeOwned>(key: &str) -> Option<T> {
    let path = folder()?.join(key);
    if age(&path)? > LIFETIME {
        return None;
    }
    serde_json::from_slice(&farcall_tls::read_file(&path, MAX_BYTES).ok()?).ok()
}

/// Stores an answer, and removes old ones. What cannot be stored is asked for again.
pub(super) fn store<T: Serialize>(key: &str, answer: &T) {
    let Some(folder) = folder() else { return };
    let Ok(json) = serde_json::to_vec(answer) else { return };
    if fs::create_dir_all(&folder).is_err() {
        return;
    }
    for file in fs::read_dir(&folder).into_iter().flatten().flatten() {
        if age(&file.path()).is_some_and(|age| age > MAX_AGE) {
            let _ = fs::remove_file(file.path());
        }
    }
    // Another process may read meanwhile: it sees all of it, or nothing.
    let part = folder.join(format!("{key}.{}", process::id()));
    if fs::write(&part, json).is_ok() {
        let _ = fs::rename(&part, folder.join(key));
    }
}

/// Returns the folder of the answers.
fn folder() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(caches.join("farcall/completions"))
}

/// Returns the age of a file; `None` if there is none.
fn age(path: &Path) -> Option<Duration> {
    fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()
}
