//! The namespaces of network, mounts and processes that the faults are made in.
//!
//! This program starts itself again as the first process of new namespaces. When that process ends, the kernel ends all others
//! of them, stopped ones too, and removes interfaces, filters and mounts. So nothing is left behind, also after SIGKILL.

use std::env;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio, exit};
use std::thread;

use anyhow::{Context as _, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::{find, run};

/// The commands that are needed, and where they are from.
const COMMANDS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "util-linux"),
];
/// Interfaces and filters as the faults need them.
const PROBE: &str = "PATH=$PATH:/usr/sbin:/sbin; ip link add probe0 type bridge && ip link add probe1 type veth peer name \
                     probe2 && nft add table inet probe";

/// The way by which this process can have namespaces.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Root,
    /// As root of a user namespace, which some systems allow to everyone.
    UserNamespace,
}

impl Access {
    fn unshare(self) -> Command {
        let mut command = Command::new(find("unshare").unwrap_or_else(|| "unshare".into()));
        if matches!(self, Self::UserNamespace) {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command
    }
}

/// Finds out how this process can have namespaces.
///
/// # Errors
///
/// A command is missing, or this process may not make namespaces; the text says which.
pub(super) fn access() -> Result<Access, String> {
    for (command, package) in COMMANDS {
        if find(command).is_none() {
            return Err(format!("`{command}` is missing, which the package {package} has"));
        }
    }
    let access = if rustix::process::geteuid().is_root() { Access::Root } else { Access::UserNamespace };
    let probed = access.unshare().args(["sh", "-c", PROBE]).stdin(Stdio::null()).output();
    let reason = match probed {
        Ok(ended) if ended.status.success() => return Ok(access),
        Ok(ended) => String::from_utf8_lossy(&ended.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(match access {
        Access::Root => format!("root may not make network namespaces with bridges and nftables: {reason}"),
        Access::UserNamespace => format!("it needs root, or user namespaces for all users: {reason}"),
    })
}

/// Runs this program in new namespaces, with the same arguments; returns `true` if it ended with success. A signal that
/// asks this process to end ends all of them.
pub(super) async fn run_this_program(access: Access) -> anyhow::Result<bool> {
    let directory = tempfile::tempdir()?;
    let mut command = access.unshare();
    command.arg(env::current_exe().context("finding this program")?);
    command.args(env::args_os().skip(1)).arg("--inside").arg(directory.path());
    let mut child =
        tokio::process::Command::from(command).stdin(Stdio::piped()).kill_on_drop(true).spawn()?;
    // Closed when this process ends, however it does; `wait` would close it at once.
    let _open_until_the_end = child.stdin.take();
    let (mut interrupt, mut terminate, mut hang_up) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let ended = tokio::select! {
        // Cancel-safe: all of them.
        ended = child.wait() => Some(ended?),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        _ = hang_up.recv() => None,
    };
    if let Some(ended) = ended {
        return Ok(ended.success());
    }
    child.kill().await.context("ending the namespaces")?;
    bail!("stopped by a signal; nothing is left behind")
}

/// Prepares the first process of the namespaces, with an empty directory for all files, which lie in memory.
pub(super) fn enter(directory: &Path) -> anyhow::Result<()> {
    ensure!(std::process::id() == 1, "--inside is for the process that this program starts");
    run(&format!("mount -t tmpfs tmpfs {}", directory.display()))?;
    // Ends with the process; a thread, since a runtime would wait for its read.
    thread::spawn(|| {
        // Nothing is ever written: an end, or an error, of the process that started the namespaces is what is waited for.
        while let Ok(1..) = std::io::stdin().read(&mut [0]) {}
        exit(2);
    });
    Ok(())
}
