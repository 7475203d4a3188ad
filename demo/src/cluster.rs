//! The server processes of a job: started, asked whether they serve, stopped. None is left
//! behind, however this process ends: each exits when the pipe to its stdin closes.

use std::env;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use farcall::describe::{HEALTH, Health, HealthRequest, HealthStatus};
use farcall::{Address, Channel, Codec, Options};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::input::shown;

/// How long a server may take to say where it listens, and to answer that it serves.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long a server may finish its calls, and how long it may take to stop in all.
const DRAIN_LIMIT: &str = "3s";
const STOP_LIMIT: Duration = Duration::from_secs(6);
/// The longest that a call may take before the job gives up.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// The counts of a text can take several times its bytes: a text of single letters becomes a map
/// with a number for each.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How long the end of a process may come after that of its connections.
const DEATH_LAG: Duration = Duration::from_millis(300);

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) servers: usize,
    pub(crate) codec: Codec,
    /// Whether the servers listen on unix sockets.
    pub(crate) unix: bool,
}

/// Server processes. Dropping it kills them.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    processes: Vec<Process>,
    sockets: Option<TempDir>,
}

/// A server that serves.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) address: Address,
    pub(crate) channel: Channel,
    /// The largest frame that it accepts, in bytes.
    pub(crate) max_frame_bytes: usize,
}

/// A server process. Its stdin stays open in the child, and closes with this process.
#[derive(Debug)]
struct Process {
    name: String,
    pid: u32,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Cluster {
    /// Starts the servers, and waits until all of them serve. Where that fails, those that were
    /// started are still there to be stopped.
    pub(crate) async fn start(&mut self, shape: &Shape) -> anyhow::Result<Vec<Member>> {
        if shape.unix {
            let dir = tempfile::Builder::new().prefix("farcall-demo-").tempdir();
            self.sockets = Some(dir.context("making a directory for sockets")?);
        }
        for number in 1..=shape.servers {
            let name = format!("server-{number}");
            let address = match &self.sockets {
                Some(dir) => Address::unix(dir.path().join(&name))?,
                None => Address::parse("tcp@127.0.0.1:0")?,
            };
            self.processes.push(Process::spawn(name, &address)?);
        }
        let mut members = Vec::new();
        for process in &mut self.processes {
            let member = timeout(START_LIMIT, process.join(shape)).await;
            members.push(member.with_context(|| format!("{} does not answer", process.name))??);
        }
        Ok(members)
    }

    /// The processes that have ended, each with how. Those that were killed a moment ago are
    /// waited for.
    pub(crate) async fn deaths(&mut self) -> Vec<String> {
        if !self.processes.is_empty() {
            sleep(DEATH_LAG).await;
        }
        self.processes.iter_mut().filter_map(Process::death).collect()
    }

    /// Stops the servers: asks all of them, then waits, and kills those that take too long.
    ///
    /// # Errors
    ///
    /// A server did not stop as it should.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for process in &self.processes {
            process.terminate();
        }
        let mut result = Ok(());
        for process in &mut self.processes {
            result = result.and(process.ended().await);
        }
        result
    }
}

impl Process {
    fn spawn(name: String, address: &Address) -> anyhow::Result<Self> {
        let program = env::current_exe().context("finding this program")?;
        let mut command = Command::new(&program);
        command
            .args(["server", "--exit-with-parent", "--drain-timeout", DRAIN_LIMIT])
            .args(["--instance", &name, "--listen", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C goes to the whole group: in its own, a server is stopped when the job says.
            .process_group(0)
            .kill_on_drop(true);
        if env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        let mut child = command.spawn().with_context(|| format!("starting {}", shown(&program)))?;
        let stdout = child.stdout.take().expect("it was piped");
        let pid = child.id().context("a process without an id")?;
        Ok(Self { name, pid, child, stdout: BufReader::new(stdout) })
    }

    /// Reads where the server listens, and asks whether it serves.
    async fn join(&mut self, shape: &Shape) -> anyhow::Result<Member> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).await?;
        let Some(address) = line.trim_end().strip_prefix("listening ") else {
            bail!("{} ended before it listened", self.name);
        };
        let address = Address::parse(address)?;
        let options = Options::default().codec(shape.codec.clone()).max_frame_bytes(MAX_ANSWER_BYTES);
        let channel = Channel::builder().to(address.clone()).options(options).timeout(CALL_LIMIT).build()?;
        let health: Health = channel.call(HEALTH, &HealthRequest::default()).await?;
        if health.status != HealthStatus::Serving {
            bail!("{} does not serve", self.name);
        }
        let connection = channel.connection().context("the connection broke")?;
        let max_frame_bytes = connection.agreed().send_limit.get();
        Ok(Member { name: self.name.clone(), pid: self.pid, address, channel, max_frame_bytes })
    }

    fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("{} (pid {}) ended: {status}", self.name, self.pid))
    }

    fn terminate(&self) {
        // There is no id any more once the process was waited for, so this hits no other.
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
            warn!(server = self.name, %error, "not told to stop");
        }
    }

    async fn ended(&mut self) -> anyhow::Result<()> {
        match timeout(STOP_LIMIT, self.child.wait()).await {
            Ok(status) => self.check(status?),
            Err(_) => {
                self.child.kill().await?;
                bail!("{} (pid {}) did not stop in time and was killed", self.name, self.pid);
            }
        }
    }

    fn check(&self, status: ExitStatus) -> anyhow::Result<()> {
        if !status.success() {
            bail!("{} (pid {}) ended: {status}", self.name, self.pid);
        }
        Ok(())
    }
}
