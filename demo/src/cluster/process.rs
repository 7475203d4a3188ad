//! One process of the cluster: started, asked to stop, waited for, killed.

use std::env;
use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use tracing::warn;

use crate::input::shown;

/// The time limit for a process to print its addresses.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The time limit for a process to stop, much longer than its drain takes.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A process that runs this program. Its stdin stays open in the child, and closes with this
/// process, however this process ends; the child ends then, too.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) pid: u32,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    pub(super) fn spawn<A: AsRef<OsStr>>(
        name: String,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        let program = env::current_exe().context("finding this program")?;
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .arg("--exit-with-parent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C goes to the whole group: in its own, a process is stopped when the job says.
            .process_group(0)
            .kill_on_drop(true);
        if env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "error");
        }
        let mut child = command.spawn().with_context(|| format!("starting {}", shown(&program)))?;
        let stdout = child.stdout.take().expect("it was piped");
        let pid = child.id().context("a process without an id")?;
        Ok(Self { name, pid, child, stdout: BufReader::new(stdout) })
    }

    /// Reads the next address that it listens on. The addresses are the first lines of its output.
    pub(super) async fn address(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = timeout(START_LIMIT, self.stdout.read_line(&mut line)).await;
        read.with_context(|| format!("{} did not print its address in time", self.name))??;
        match line.trim_end().strip_prefix("listening ") {
            Some(address) => Ok(address.to_owned()),
            None => bail!("{} ended before it listened", self.name),
        }
    }

    /// Describes its end, if it has ended.
    pub(super) fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(self.description(status))
    }

    /// Kills it, without a graceful stop.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("killing {}", self.name))
    }

    /// Sends SIGTERM.
    pub(super) fn terminate(&self) {
        // The id is gone once the process was waited for, so this signals no other process.
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
            warn!(process = self.name, %error, "cannot send SIGTERM");
        }
    }

    /// Waits for its end, and returns its output since [`Process::address`]. A process that takes too
    /// long is killed.
    ///
    /// # Errors
    ///
    /// It failed, or did not end in time.
    pub(super) async fn ended(&mut self) -> anyhow::Result<String> {
        let mut output = String::new();
        let ending = async {
            // Reads before waiting, so that a full pipe cannot block the process.
            self.stdout.read_to_string(&mut output).await?;
            self.child.wait().await
        };
        match timeout(STOP_LIMIT, ending).await {
            Ok(status) => {
                let status = status?;
                if !status.success() {
                    bail!("{}", self.description(status));
                }
                Ok(output)
            }
            Err(_) => {
                self.child.kill().await?;
                bail!("{} (pid {}) did not stop in time and was killed", self.name, self.pid);
            }
        }
    }

    fn description(&self, status: ExitStatus) -> String {
        format!("{} (pid {}) ended: {status}", self.name, self.pid)
    }
}
