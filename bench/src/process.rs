//! The processes of a measurement: servers that are started and stopped, and what they cost.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

/// The kernel counts CPU time in hundredths of a second, whatever its own clock does.
const TICKS_PER_S: f64 = 100.0;

/// The CPU time of a process, user and system together.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("reading CPU time")?;
    // The name, in parentheses, may hold anything; user and system time are 12 and 13 behind it.
    let fields: Vec<_> = stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace().collect();
    ensure!(fields.len() > 12, "stat has {} fields", fields.len());
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(Duration::from_secs_f64(ticks / TICKS_PER_S))
}

/// The most memory that a process has had resident, in kilobytes.
pub(crate) fn peak_kb(pid: u32) -> anyhow::Result<u64> {
    memory_kb(pid, "VmHWM:")
}

/// The memory that a process has resident now, in kilobytes.
pub(crate) fn resident_kb(pid: u32) -> anyhow::Result<u64> {
    memory_kb(pid, "VmRSS:")
}

fn memory_kb(pid: u32, field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("reading memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    Ok(line.with_context(|| format!("no {field}"))?.trim().trim_end_matches(" kB").parse()?)
}

/// This program as a server, until it is dropped.
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) address: String,
}

impl ServerProcess {
    /// Runs this program with these arguments; the first line that it prints is its address.
    pub(crate) fn start(args: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("it is piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().to_owned();
        let server = Self { child, address };
        ensure!(!server.address.is_empty(), "`{}` did not start", args.join(" "));
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It holds nothing that a kill could lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
