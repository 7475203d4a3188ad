//! [`Scarcity`]: things that a server can lack, and [`Supplies`], the places on this machine that are needed to make it so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// A thing of which a server has little, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scarcity {
    /// The number of descriptors that it may open.
    Descriptors(u64),
    /// The memory past which the kernel ends it, in MB.
    MemoryMb(u64),
    /// A small disk for its snapshot.
    Disk,
    /// A log that cannot be written: there is no room.
    Log,
}

/// The places that the command line names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Supplies {
    /// A directory on a disk with little room.
    pub(crate) small_disk: Option<PathBuf>,
    /// A cgroup for memory in which others can be made.
    pub(crate) cgroup: Option<PathBuf>,
}

/// A cgroup for one server. Dropping it removes it, once the server has ended.
pub(crate) struct Cgroup(PathBuf);

impl Supplies {
    /// Returns what is missing for this scarcity.
    pub(crate) fn missing(&self, scarcity: Scarcity) -> Option<&'static str> {
        match scarcity {
            Scarcity::Disk if self.small_disk.is_none() => {
                Some("--small-disk is not set, a directory on a disk of at most 8 MB")
            }
            Scarcity::MemoryMb(_) if self.cgroup.is_none() => {
                Some("--memory-cgroup is not set, a cgroup in which this program may make another")
            }
            _ => None,
        }
    }
}

/// Limits the descriptors of a process.
pub(crate) fn limit_descriptors(pid: Pid, most: u64) -> io::Result<()> {
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })?;
    Ok(())
}

impl Cgroup {
    /// Creates a cgroup with this much memory, and moves a process into it.
    pub(crate) fn create(parent: &Path, pid: i32, megabytes: u64) -> io::Result<Self> {
        let cgroup = Self(parent.join(format!("hostile-{}-{pid}", process::id())));
        fs::create_dir(&cgroup.0)?;
        // Of version 2, and of version 1.
        let limit = ["memory.max", "memory.limit_in_bytes"].map(|name| cgroup.0.join(name));
        let file = limit.iter().find(|file| file.exists()).unwrap_or(&limit[0]);
        fs::write(file, (megabytes * 1_000_000).to_string())?;
        fs::write(cgroup.0.join("cgroup.procs"), pid.to_string())?;
        Ok(cgroup)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The processes of a cgroup go a moment after they have ended; what is left is empty.
        let _ = fs::remove_dir(&self.0);
    }
}
