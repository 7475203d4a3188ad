//! [`trial`]: one client against one trick.

use std::env;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::server::HostileServer;
use super::trick::Trick;
use crate::cli::ClientsArgs;
use crate::server;

/// The time beyond its calls in which a client must end.
const MAX_END: Duration = Duration::from_secs(15);
/// The time between two looks at the client's memory.
const MEMORY_INTERVAL: Duration = Duration::from_millis(20);

/// The language of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Rust,
    Python,
    JavaScript,
}

/// The result of a trial.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Outcome {
    #[serde(flatten)]
    pub(super) calls: Calls,
    pub(super) connections: usize,
    /// Resident memory at most, in bytes.
    pub(super) max_memory: u64,
}

/// The calls of a client, as it reports them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Calls {
    pub(super) calls: u64,
    /// Calls that ended with a value.
    pub(super) answers: u64,
    /// Those with another one than the first that was sent.
    pub(super) wrong: u64,
    pub(super) slowest_ms: f64,
    /// The last failure that was no error of farcall.
    pub(super) unexpected: Option<String>,
}

impl Language {
    pub(super) const ALL: [Self; 3] = [Self::Rust, Self::Python, Self::JavaScript];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "javascript",
        }
    }

    /// Returns the command line of the client.
    fn command(self, server: &HostileServer, seconds: u64) -> anyhow::Result<Command> {
        let (address, seconds) = (server.address, seconds.to_string());
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients");
        let script =
            |name: &str| -> PathBuf { Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clients").join(name) };
        let mut command;
        match self {
            Self::Rust => {
                command = Command::new(env::current_exe().context("finding this program")?);
                command.args(["caller", &format!("tcp@{address}"), &seconds]);
            }
            Self::Python => {
                command = Command::new("python3");
                command.env("PYTHONPATH", clients.join("python/src"));
                command.arg(script("caller.py")).args([&format!("tcp@{address}"), &seconds]);
            }
            Self::JavaScript => {
                command = Command::new("node");
                // Of versions before 22.
                command.args(["--no-warnings", "--experimental-websocket"]);
                command.arg(script("caller.mjs")).arg(clients.join("javascript/farcall.js"));
                command.args([&format!("ws://{address}"), &seconds]);
            }
        }
        Ok(command)
    }
}

/// Runs a client against a server that does this trick.
pub(super) async fn trial(language: Language, trick: Trick, args: &ClientsArgs) -> anyhow::Result<Outcome> {
    let server = HostileServer::start(trick, language == Language::JavaScript).await?;
    let mut command = language.command(&server, args.seconds)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let mut stdout = child.stdout.take().context("stdout is piped")?;
    let mut stderr = child.stderr.take().context("stderr is piped")?;
    let pid = child.id().map(|id| id as i32).context("the client has ended")?;
    let mut max_memory = 0;
    let ended = async {
        let (mut text, mut errors) = (String::new(), String::new());
        {
            let reading =
                async { tokio::join!(stdout.read_to_string(&mut text), stderr.read_to_string(&mut errors)) };
            let mut reading = pin!(reading);
            loop {
                tokio::select! {
                    // Cancel-safe: it is polled on in the next round.
                    read = &mut reading => {
                        read.0?;
                        break;
                    }
                    () = sleep(MEMORY_INTERVAL) => {
                        max_memory = server::memory(pid).unwrap_or(0).max(max_memory);
                    }
                }
            }
        }
        anyhow::Ok((child.wait().await?, text, errors))
    };
    let limit = Duration::from_secs(args.seconds) + MAX_END;
    let (status, text, errors) =
        timeout(limit, ended).await.with_context(|| format!("not ended within {limit:?}"))??;
    let last = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    ensure!(status.success(), "the client ended with {status}: {last}");
    let calls: Calls = serde_json::from_str(text.trim()).context("the client said nothing")?;
    Ok(Outcome { calls, connections: server.accepted(), max_memory })
}
