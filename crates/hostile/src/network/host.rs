//! [`Host`]: a host with a server, in a network namespace that lives as long as the server's process.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use farcall::Channel;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::firewall::{CLIENT, Drops, drop_from};
use super::server::{Holds, PORT};
use crate::commands::{find, run};

/// The time in which a server must start.
const MAX_START: Duration = Duration::from_secs(60);
/// The time in which a server that runs must say what it holds.
const MAX_ANSWER: Duration = Duration::from_secs(1);

/// A host. Dropping it kills its server, and its namespace goes.
pub(super) struct Host {
    number: u8,
    address: String,
    pid: Pid,
    child: Child,
    files: PathBuf,
    /// Over a Unix socket, which no fault of the network reaches.
    control: Channel,
}

impl Host {
    /// Starts a server on the host with this number, 1 to 9, and connects the host.
    pub(super) async fn start(number: u8, files: &Path) -> anyhow::Result<Self> {
        let host = Self::boot(number, files).await?;
        host.connect()?;
        Ok(host)
    }

    /// Starts a server on the host with this number, which is not connected.
    async fn boot(number: u8, files: &Path) -> anyhow::Result<Self> {
        let socket = files.join(format!("host-{number}.sock"));
        let program = env::current_exe().context("finding this program")?;
        let mut command = Command::new(find("unshare").context("`unshare` is not installed")?);
        command.arg("--net").arg(program).arg("network-server").arg(number.to_string());
        command.arg(&socket).arg(files.join("ledger"));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(MAX_START, lines.next_line()).await.context("the server does not start")??;
        ensure!(line.as_deref() == Some("listening"), "the server ended, or said {line:?}");
        let pid =
            child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).context("the server has ended")?;
        let control = Channel::to(format!("unix@{}", socket.display()).as_str())?;
        let address = format!("10.77.0.{}", number + 1);
        Ok(Self { number, address, pid, child, files: files.to_owned(), control })
    }

    /// Puts the host on the bridge.
    fn connect(&self) -> anyhow::Result<()> {
        let (port, pid) = (format!("host{}", self.number), self.pid());
        // That of an earlier host goes with its namespace, a moment after the last process; or now.
        let _ = run(&format!("ip link del {port}"));
        run(&format!("ip link add {port} type veth peer name eth0 netns {pid}"))?;
        run(&format!("ip link set {port} master farcall0 up"))?;
        self.inside("ip link set lo up")?;
        self.inside(&format!("ip addr add {}/24 dev eth0", self.address))?;
        self.set_link(true)
    }

    /// Returns the address for calls.
    pub(super) fn endpoint(&self) -> String {
        format!("tcp@{}:{PORT}", self.address)
    }

    /// Returns the IP address.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Drops packets of the client that arrive here.
    pub(super) fn drop_requests(&self, drops: Option<Drops>) -> anyhow::Result<()> {
        drop_from(CLIENT, Some(self.pid()), drops)
    }

    /// Drops packets of this host that arrive at the client.
    pub(super) fn drop_answers(&self, drops: Option<Drops>) -> anyhow::Result<()> {
        drop_from(&self.address, None, drops)
    }

    /// Takes the host's interface up or down.
    pub(super) fn set_link(&self, up: bool) -> anyhow::Result<()> {
        self.inside(&format!("ip link set eth0 {}", if up { "up" } else { "down" }))
    }

    /// Stops the server's process, or lets it go on.
    pub(super) fn set_frozen(&self, frozen: bool) -> anyhow::Result<()> {
        Ok(kill_process(self.pid, if frozen { Signal::STOP } else { Signal::CONT })?)
    }

    /// Ends the host without a packet to its peers, and starts another one in its place.
    pub(super) async fn reboot(&mut self) -> anyhow::Result<()> {
        self.set_link(false)?;
        self.child.kill().await.context("killing the server")?;
        *self = Self::start(self.number, &self.files).await?;
        Ok(())
    }

    /// Returns what the server holds; `None` while it does not run.
    pub(super) async fn holds(&self) -> Option<Holds> {
        self.control.call("Net.holds", &json!({})).timeout(MAX_ANSWER).await.ok()
    }

    fn inside(&self, line: &str) -> anyhow::Result<()> {
        run(&format!("nsenter -t {} -n {line}", self.pid()))
    }

    fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }
}
