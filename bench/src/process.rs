//! The processes of a measurement: servers that are started and stopped, where they run, what they cost.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

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

/// The time that the threads of a process, as far as they still run, have waited for a core while they had something to do.
pub(crate) fn waited_for_core(pid: u32) -> anyhow::Result<Duration> {
    let mut waited = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("listing threads")? {
        // One that has ended meanwhile is left out.
        let Ok(stat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        // Nanoseconds on a core, nanoseconds of waiting, number of times on a core.
        waited += stat.split_whitespace().nth(1).context("no waiting in schedstat")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(waited))
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

/// Allows this process as many open files as it may allow itself, and tells how many those are.
pub(crate) fn raise_open_files() -> anyhow::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}

/// Holds this thread, and the processes that it starts, to one core, until it is dropped.
pub(crate) struct OneCore {
    before: CpuSet,
}

impl OneCore {
    pub(crate) fn hold() -> anyhow::Result<Self> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this)?;
        let mut one = CpuSet::new();
        // Not the first, which has most of the machine's interrupts.
        let last = (0..CpuSet::count()).rev().find(|core| before.is_set(*core).unwrap_or(false));
        one.set(last.context("there is no core to run on")?)?;
        sched_setaffinity(this, &one)?;
        Ok(Self { before })
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        // It was allowed before.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

/// This program with these arguments.
pub(crate) fn this_program(args: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args);
    Ok(command)
}

/// A program as a server, until it is dropped.
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) address: String,
}

impl ServerProcess {
    /// Runs this program with these arguments; the first line that it prints is its address.
    pub(crate) fn start(args: &[&str]) -> anyhow::Result<Self> {
        Self::run(this_program(args)?)
    }

    /// Runs a program; the first line that it prints is its address.
    pub(crate) fn run(mut command: Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let child = child.with_context(|| format!("starting {command:?}"))?;
        let mut server = Self { child, address: String::new() };
        let stdout = server.child.stdout.take().context("it is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        line.trim().clone_into(&mut server.address);
        ensure!(!server.address.is_empty(), "{command:?} did not start");
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
