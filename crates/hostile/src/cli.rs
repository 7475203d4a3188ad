//! The arguments of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Attacks farcall's servers while an honest client uses them, and reports what that client noticed.
///
/// Starts its servers itself, on loopback. Exits with 1 if a verdict is not clean.
#[derive(Debug, Parser)]
#[command(name = "hostile", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The attacks to make, separated by commas. Default: all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Lists the attacks, and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// The duration of an attack in seconds; some last longer, because they need to.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Writes the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Leaves latencies out of the verdicts, and the time after which a server must have ended an attacker's
    /// connections: for a machine that is busy, and for builds that are not optimized.
    #[arg(long)]
    pub(crate) without_latency: bool,
    /// Runs the attacker in Linux's scheduling class for idle work, with `chrt` of util-linux: it has the processor time that
    /// servers and honest clients leave, as if it ran on another machine. Default: it has its share, and on a machine with
    /// few cores an honest client waits for the attacker itself. The table has the class, and what the server did meanwhile.
    #[arg(long)]
    pub(crate) idle_attacker: bool,
    /// Makes each attack so often on the same server, and compares what it holds 25 s after each run, without any client:
    /// after the last run, memory may be a tenth more than after each of the first half of the runs, and descriptors,
    /// connections, calls and buffers no more. Takes up to a minute for each run.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// A directory on a disk with at most 8 MB of room, for attacks on servers whose disk is full, such as one that
    /// `mount -t tmpfs -o size=4m tmpfs DIR` makes. Default: these attacks are not tried.
    #[arg(long, value_name = "DIR")]
    pub(crate) small_disk: Option<PathBuf>,
    /// A cgroup for memory, such as `/sys/fs/cgroup/memory`, in which this program may make others, for attacks on servers
    /// that are short of memory. Default: these attacks are not tried.
    #[arg(long, value_name = "DIR")]
    pub(crate) memory_cgroup: Option<PathBuf>,
    /// The directory with the programs `demo` and `registry-server`. Default: that of this program, where cargo
    /// builds them first if it runs this program.
    #[arg(long, value_name = "DIR")]
    pub(crate) servers: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Has clients in Rust, Python and JavaScript call a hostile server.
    Clients(ClientsArgs),
    /// Has clients call over a bad network, in network namespaces that go with this program; needs root, or user
    /// namespaces, `ip` and `nft`.
    Network(NetworkArgs),
    /// Decodes mutated messages in this process, the same ones in every run.
    Mutations {
        /// The number of messages.
        #[arg(long, value_name = "N", default_value_t = 10_000_000)]
        count: u64,
    },
    /// Calls a hostile server, as the child process of a run.
    #[command(hide = true)]
    Caller { address: String, seconds: u64 },
    /// Serves on a host of a bad network, as the child process of a run.
    #[command(hide = true)]
    NetworkServer { host: u8, socket: PathBuf, ledger: PathBuf },
    /// Makes one attack, as the child process of a run.
    #[command(hide = true)]
    Attack(AttackArgs),
}

/// The clients and the tricks of the server.
#[derive(Debug, Args)]
pub(crate) struct ClientsArgs {
    /// The tricks to try, separated by commas. Default: all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// The clients, `rust`, `python` and `javascript`, separated by commas. Default: all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) client: Vec<String>,
    /// Lists the tricks, and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// The time in seconds for which each client calls.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Writes the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// The faults of the network.
#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    /// The faults to try, separated by commas. Default: all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Lists the faults, and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// Tries a few, for 4 s each: half a minute in all.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Finds out whether this machine has what it takes, and ends.
    #[arg(long)]
    pub(crate) check: bool,
    /// Writes the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Set for the process inside the namespaces: a directory for its files.
    #[arg(long, hide = true)]
    pub(crate) inside: Option<PathBuf>,
}

/// An attack and its target.
#[derive(Debug, Args)]
pub(crate) struct AttackArgs {
    pub(crate) name: String,
    /// The address for calls; of a registry, the same as that of HTTP.
    #[arg(long)]
    pub(crate) rpc: SocketAddr,
    #[arg(long)]
    pub(crate) http: SocketAddr,
    /// The address for calls over TLS; of a registry, the same as that of HTTP.
    #[arg(long)]
    pub(crate) tls: SocketAddr,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
