//! [`Secret`]: where a token comes from. Never from the command line, which other users of the machine can read.

use std::fmt;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::failure::Failure;

/// The largest file with a token, in bytes: anything longer is the wrong file.
const MAX_FILE: u64 = 64 * 1024;

/// The source of a token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// The first line that a shell command prints.
    Command(String),
}

impl Secret {
    /// Returns the token.
    pub(crate) async fn read(&self) -> Result<String, Failure> {
        let text = match self {
            Self::File(path) => read_file(path)?,
            Self::Variable(name) => std::env::var(name).map_err(|_| {
                Failure::usage(format!("the variable {name}, which has the token, is not set"))
            })?,
            Self::Command(command) => output(command).await?,
        };
        let token = text.lines().next().unwrap_or_default().trim();
        if token.is_empty() {
            return Err(Failure::usage(format!("{self}: there is no token in it")));
        }
        Ok(token.to_owned())
    }
}

/// Reads the name and the password in the first line of a file, which are separated by a colon.
pub(super) fn read_user(path: &Path) -> Result<(String, String), Failure> {
    let text = read_file(path)?;
    let line = text.lines().next().unwrap_or_default().trim();
    line.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned())).ok_or_else(|| {
        Failure::usage(format!("the token file {}: its first line is not `name:password`", path.display()))
    })
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let wrong = |reason: &str| Failure::usage(format!("the token file {}: it {reason}", path.display()));
    let bytes = farcall_tls::read_file(path, MAX_FILE).map_err(|error| wrong(error.reason()))?;
    String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))
}

/// Runs a command in the shell, and returns what it prints. Its standard error is this program's.
async fn output(command: &str) -> Result<String, Failure> {
    let mut process = Command::new("sh");
    process.args(["-c", command]).stdin(std::process::Stdio::null()).stderr(std::process::Stdio::inherit());
    process.kill_on_drop(true);
    let failed = |reason: String| Failure::usage(format!("the token command `{command}`: {reason}"));
    let output = process.output().await.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("it failed with {}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("its output is not UTF-8".to_owned()))
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the token file {}", path.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Command(command) => write!(f, "the token command `{command}`"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
