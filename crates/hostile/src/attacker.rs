//! [`Attacker`]: the process that attacks, and its scheduling class. What it sends is left to [`attacks`](crate::attacks).

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::attacks::{Attack, GO, READY};
use crate::commands;
use crate::server::{ProcessTimes, Server};

/// The time in which an attack must have prepared itself, such as by filling a registry.
const MAX_PREPARATION: Duration = Duration::from_secs(300);

/// The scheduling class of an attacker in Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scheduling {
    /// The class of most processes, `SCHED_OTHER`: it takes the processor from servers and honest clients.
    #[default]
    Usual,
    /// The class for idle work, `SCHED_IDLE`: it has what the others leave, much as if it ran on another machine.
    Idle,
}

impl Scheduling {
    /// Returns the class that `policy` is, as `/proc` numbers it.
    const fn of_policy(policy: u64) -> Option<Self> {
        match policy {
            0 => Some(Self::Usual),
            5 => Some(Self::Idle),
            _ => None,
        }
    }

    /// Returns the name in the table and the JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Idle => "idle",
        }
    }
}

/// The processor time that an attacker took, and the class in which it ran, as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AttackerFigures {
    /// `None` if it is neither of those.
    pub(crate) scheduling: Option<Scheduling>,
    /// Processor time since its start, in milliseconds.
    pub(crate) processor_ms: u64,
}

/// The process that attacks. Dropping it kills it.
pub(crate) struct Attacker {
    pid: u32,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Attacker {
    /// Starts an attacker, which prepares itself.
    ///
    /// # Errors
    ///
    /// This program cannot be started once more, or `chrt` is not installed and `scheduling` needs it.
    pub(crate) fn start(attack: &Attack, target: &Server, scheduling: Scheduling) -> anyhow::Result<Self> {
        let own = env::current_exe().context("finding this program")?;
        let mut child = command(scheduling, &own, commands::find)?
            .args(["attack", attack.name()])
            .args(["--rpc", &target.rpc.to_string(), "--http", &target.http.to_string()])
            .args(["--tls", &target.tls.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the attacker")?;
        let pid = child.id().context("the attacker has ended")?;
        let stdin = child.stdin.take().context("stdin is piped")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        Ok(Self { pid, child, stdin, stdout: BufReader::new(stdout) })
    }

    /// Waits until it is prepared.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        let read = timeout(MAX_PREPARATION, self.stdout.read_line(&mut line)).await;
        read.with_context(|| format!("the attack was not prepared within {MAX_PREPARATION:?}"))??;
        if line.trim() != READY {
            bail!("the attack could not be prepared");
        }
        Ok(())
    }

    /// Lets it begin.
    pub(crate) async fn go(&mut self) -> anyhow::Result<()> {
        Ok(self.stdin.write_all(format!("{GO}\n").as_bytes()).await?)
    }

    /// Returns what it took so far. A process that has ended keeps its figures until [`kill`](Self::kill).
    pub(crate) fn figures(&self) -> io::Result<AttackerFigures> {
        let times = ProcessTimes::of(self.pid)?;
        let scheduling = Scheduling::of_policy(times.policy);
        Ok(AttackerFigures { scheduling, processor_ms: times.processor_ms })
    }

    /// Ends it, and so its connections.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Returns the command that runs `program` in this class; `find` finds commands of the system.
fn command(
    scheduling: Scheduling,
    program: &Path,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> anyhow::Result<Command> {
    match scheduling {
        Scheduling::Usual => Ok(Command::new(program)),
        Scheduling::Idle => {
            let chrt =
                find("chrt").context("--idle-attacker needs `chrt` of util-linux, which is not installed")?;
            let mut command = Command::new(chrt);
            // It becomes the program: the process that is started is the attacker, whose threads inherit the class.
            command.args(["--idle", "0"]).arg(program);
            Ok(command)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the class of a process that `scheduling` starts, as the kernel tells.
    async fn class_of(scheduling: Scheduling) -> Option<Scheduling> {
        let mut command = command(scheduling, Path::new("cat"), commands::find).unwrap();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        // An echo shows that `chrt` has become the program.
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        stdin.write_all(b"there\n").await.unwrap();
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await.unwrap();
        Scheduling::of_policy(ProcessTimes::of(child.id().unwrap()).unwrap().policy)
    }

    #[tokio::test]
    async fn attacker_runs_in_the_class_that_was_asked_for() {
        if commands::find("chrt").is_some() {
            assert_eq!(class_of(Scheduling::Idle).await, Some(Scheduling::Idle));
        }
        let own = ProcessTimes::of(std::process::id()).unwrap().policy;
        assert_eq!(class_of(Scheduling::Usual).await, Scheduling::of_policy(own), "inherited");
    }

    #[test]
    fn missing_command_is_named_with_its_option() {
        let error = command(Scheduling::Idle, Path::new("cat"), |_| None).unwrap_err().to_string();
        assert!(error.contains("--idle-attacker") && error.contains("`chrt` of util-linux"), "{error}");
        assert!(command(Scheduling::Usual, Path::new("cat"), |_| None).is_ok());
    }
}
