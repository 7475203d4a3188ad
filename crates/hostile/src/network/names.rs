//! [`Names`]: the hosts file and the name server of the sandbox, whose answers change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::commands::{find, run};

/// The name that is in the hosts file.
pub(super) const IN_HOSTS: &str = "hosts.shop.test";
/// The name that the name server knows.
pub(super) const IN_DNS: &str = "dns.shop.test";

/// The files that say what names mean, mounted over those of the system in this namespace alone.
pub(super) struct Names {
    directory: PathBuf,
}

/// A name server. Dropping it ends it.
pub(super) struct NameServer {
    child: Child,
}

impl Names {
    /// Puts files of this directory in the place of `/etc/hosts` and `/etc/resolv.conf`.
    pub(super) fn set_up(directory: &Path) -> anyhow::Result<Self> {
        let names = Self { directory: directory.to_owned() };
        let texts = [
            ("hosts", "127.0.0.1 localhost\n"),
            ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1\n"),
        ];
        for (file, text) in texts {
            let own = names.directory.join(file);
            fs::write(&own, text)?;
            run(&format!("mount --bind {} /etc/{file}", own.display()))?;
        }
        Ok(names)
    }

    /// Returns the directory of these files.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Has the hosts file say that [`IN_HOSTS`] is this address.
    pub(super) fn set_host(&self, address: &str) -> anyhow::Result<()> {
        // Written in place: a rename would not change the mounted file.
        let text = format!("127.0.0.1 localhost\n{address} {IN_HOSTS}\n");
        fs::write(self.directory.join("hosts"), text).context("writing the hosts file")
    }

    /// Starts a name server that says that [`IN_DNS`] is this address.
    pub(super) fn name_server(&self, address: &str) -> anyhow::Result<NameServer> {
        let program = find("dnsmasq").context("`dnsmasq` is missing, which the package dnsmasq-base has")?;
        let zone = self.zone(address)?;
        let child = Command::new(program)
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                "--pid-file=",
            ])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--group=root"])
            .arg(format!("--addn-hosts={}", zone.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting dnsmasq")?;
        Ok(NameServer { child })
    }

    /// Has the name server answer with this address.
    pub(super) fn set_dns(&self, server: &NameServer, address: &str) -> anyhow::Result<()> {
        self.zone(address)?;
        let pid = Pid::from_raw(server.child.id().try_into()?).context("the name server has ended")?;
        Ok(kill_process(pid, Signal::HUP)?)
    }

    fn zone(&self, address: &str) -> anyhow::Result<PathBuf> {
        let zone = self.directory.join("zone");
        fs::write(&zone, format!("{address} {IN_DNS}\n")).context("writing the zone")?;
        Ok(zone)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // It has no state, and port 53 is needed again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
