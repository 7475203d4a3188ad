//! [`Server`]: a server of the demo or a registry, as a child process with its defaults.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use farcall_test_support::pki::Certificate;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use super::scarcity::{Cgroup, Scarcity, Supplies, limit_descriptors};

/// The time in which a server must start.
const MAX_START: Duration = Duration::from_secs(60);

/// The kind of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `demo server`, with a port each for calls, for HTTP and for calls over TLS.
    Demo,
    /// `registry-server`.
    Registry,
    /// `registry-server` with a snapshot file.
    RegistryWithSnapshot,
}

/// A server. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    /// The address for calls.
    pub(crate) rpc: SocketAddr,
    /// The address for HTTP.
    pub(crate) http: SocketAddr,
    /// The address for calls over TLS.
    pub(crate) tls: SocketAddr,
    child: Child,
    pid: Pid,
    log: Arc<Log>,
    // Kept open, or the server's last words would fail.
    _stdout: Lines<BufReader<ChildStdout>>,
    /// The directory of the certificate and the snapshot.
    _files: TempDir,
    /// After `child`, which is in it.
    _cgroup: Option<Cgroup>,
}

/// The log of a server, as far as it is kept.
#[derive(Default)]
struct Log {
    bytes: AtomicU64,
    panicked: AtomicBool,
}

impl Log {
    /// Reads what the server writes, until it ends.
    async fn read(self: Arc<Self>, mut stderr: ChildStderr) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            self.bytes.fetch_add(count as u64, Relaxed);
            // The panic that `Echo.panic` makes is the caller's wish.
            let text = String::from_utf8_lossy(&buffer[..count]);
            if text.lines().any(|line| line.contains("panicked at") && !line.contains("services/echo.rs")) {
                self.panicked.store(true, Relaxed);
            }
        }
    }
}

impl Server {
    /// Starts a server of this kind with the programs of a directory.
    pub(crate) async fn start(kind: Kind, programs: &Path) -> anyhow::Result<Self> {
        Self::start_lacking(kind, programs, None, &Supplies::default()).await
    }

    /// Starts a server that lacks something.
    pub(crate) async fn start_lacking(
        kind: Kind,
        programs: &Path,
        scarcity: Option<Scarcity>,
        supplies: &Supplies,
    ) -> anyhow::Result<Self> {
        let files = match (scarcity, &supplies.small_disk) {
            (Some(Scarcity::Disk), Some(disk)) => tempfile::tempdir_in(disk)?,
            _ => tempfile::tempdir()?,
        };
        let kind = if scarcity == Some(Scarcity::Disk) { Kind::RegistryWithSnapshot } else { kind };
        let (mut command, addresses) = command(kind, programs, files.path())?;
        let log_to = match scarcity {
            Some(Scarcity::Log) => File::options().write(true).open("/dev/full")?.into(),
            _ => Stdio::piped(),
        };
        let mut child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_to)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let log = Arc::new(Log::default());
        if let Some(stderr) = child.stderr.take() {
            // Ends with the server.
            tokio::spawn(Arc::clone(&log).read(stderr));
        }
        let mut stdout = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let mut found = Vec::new();
        while found.len() < addresses {
            let line =
                timeout(MAX_START, stdout.next_line()).await.context("the server does not start")??;
            let line = line.with_context(|| format!("{command:?} ended"))?;
            found.extend(line.strip_prefix("listening ").map(address).transpose()?);
        }
        let pid =
            child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).context("the server has ended")?;
        let cgroup = match (scarcity, &supplies.cgroup) {
            (Some(Scarcity::MemoryMb(most)), Some(parent)) => {
                let cgroup = Cgroup::create(parent, pid.as_raw_nonzero().get(), most);
                Some(cgroup.with_context(|| format!("making a cgroup in {}", parent.display()))?)
            }
            _ => None,
        };
        if let Some(Scarcity::Descriptors(most)) = scarcity {
            limit_descriptors(pid, most)?;
        }
        let http = *found.last().context("no address")?;
        let (rpc, tls) = if kind == Kind::Demo { (found[0], found[1]) } else { (http, http) };
        Ok(Self { kind, rpc, http, tls, child, pid, log, _stdout: stdout, _files: files, _cgroup: cgroup })
    }

    /// Returns the number of the process.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Returns the number of bytes that it has logged.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log.bytes.load(Relaxed)
    }

    /// Returns `true` if code of the server itself has panicked.
    pub(crate) fn has_panicked(&self) -> bool {
        self.log.panicked.load(Relaxed)
    }

    /// Returns the exit status of the server, if it has ended.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks the server to stop, which it must within `limit`: nothing is left to drain.
    ///
    /// # Errors
    ///
    /// It does not end in time, or with an error.
    pub(crate) async fn stop(mut self, limit: Duration) -> anyhow::Result<()> {
        kill_process(self.pid, Signal::TERM)?;
        let status = timeout(limit, self.child.wait())
            .await
            .with_context(|| format!("not stopped {limit:?} after SIGTERM"))??;
        ensure!(status.success(), "ended with {status}");
        Ok(())
    }
}

/// Returns the command line of a server, and the number of addresses that it prints.
fn command(kind: Kind, programs: &Path, files: &Path) -> anyhow::Result<(Command, usize)> {
    let mut command;
    match kind {
        Kind::Demo => {
            let certificate = Certificate::self_signed(&["127.0.0.1"]);
            let (chain, key) = (files.join("server.pem"), files.join("server.key"));
            std::fs::write(&chain, certificate.chain)?;
            std::fs::write(&key, certificate.key)?;
            command = Command::new(programs.join("demo"));
            command.args(["server", "--listen", "tcp@127.0.0.1:0", "--listen", "tls@127.0.0.1:0"]);
            command.args(["--http", "127.0.0.1:0", "--tls-cert"]).arg(chain).arg("--tls-key").arg(key);
            Ok((command, 3))
        }
        Kind::Registry | Kind::RegistryWithSnapshot => {
            command = Command::new(programs.join("registry-server"));
            command.args(["--listen", "127.0.0.1:0"]);
            if kind == Kind::RegistryWithSnapshot {
                command.arg("--snapshot").arg(files.join("snapshot.json"));
            }
            Ok((command, 1))
        }
    }
}

/// Parses the address that a server prints, with a scheme or as a URL.
fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let place = text.rsplit(['@', '/']).find(|part| !part.is_empty()).unwrap_or(text);
    place.parse().with_context(|| format!("`{text}` is no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_addresses_are_parsed() {
        for text in ["tcp@127.0.0.1:7001", "http://127.0.0.1:7001", "http://127.0.0.1:7001/"] {
            assert_eq!(address(text).unwrap(), SocketAddr::from(([127, 0, 0, 1], 7001)), "{text}");
        }
        assert!(address("unix@/run/demo.sock").is_err());
    }
}
