//! Running the system's commands.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// The directories of commands for administrators, which are not in the `PATH` of all users.
const MORE_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Returns the path of a command, if it is installed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(MORE_DIRECTORIES.map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Runs a command line, whose parts are separated by spaces, to its end.
pub(crate) fn run(line: &str) -> anyhow::Result<()> {
    run_with_input(line, "")
}

/// Runs a command line, and writes `input` to it.
pub(crate) fn run_with_input(line: &str, input: &str) -> anyhow::Result<()> {
    let mut parts = line.split_whitespace();
    let name = parts.next().context("an empty command line")?;
    let program = find(name).with_context(|| format!("`{name}` is not installed"))?;
    let mut child = Command::new(program)
        .args(parts)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{line}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("writing to `{line}`"))?;
    }
    let ended = child.wait_with_output().with_context(|| format!("waiting for `{line}`"))?;
    let errors = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "`{line}` ended with {}: {}", ended.status, errors.trim());
    Ok(())
}
