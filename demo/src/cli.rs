//! The arguments of the command line. [`crate::job`], [`crate::server`] and [`crate::registry`] use
//! them.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use farcall::Address;
use farcall::protocol::Codec;
use farcall::transport::Scheme;

use crate::registry_url::{RegistryName, RegistryUrl};

/// Starts a cluster (a registry and servers), counts the words of files on it, and checks the
/// answers. While the calls run, one server is killed, another one started, and a third one drained.
#[derive(Debug, Parser)]
#[command(name = "demo", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "a process has one value of it")]
pub(crate) enum Command {
    /// Runs one server, until SIGTERM or SIGINT.
    Server(ServerArgs),
    /// Runs the registry, until SIGTERM or SIGINT.
    Registry(RegistryArgs),
    /// Runs an etcd for as long as the parent process lives.
    #[command(hide = true)]
    Etcd(ExternalArgs),
    /// Runs a ZooKeeper for as long as the parent process lives.
    #[command(hide = true)]
    Zookeeper(ExternalArgs),
    /// Runs a registry whose instances are SRV records of DNS, for as long as the parent process lives.
    #[command(hide = true)]
    Srv(SrvArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// Files, and directories to search for files, except those in .gitignore. Default:
    /// the sources and documents of farcall itself.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) input: Vec<PathBuf>,
    /// Number of servers to start.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count(64))]
    pub(crate) servers: usize,
    /// Maximum number of calls in flight.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count(65_536))]
    pub(crate) concurrency: usize,
    /// Number of times that each file is sent.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count(1_000_000_000))]
    pub(crate) repeat: usize,
    /// Encoding of messages.
    #[arg(long, value_enum, default_value_t = CodecName::Msgpack)]
    pub(crate) codec: CodecName,
    /// Puts the servers on unix sockets instead of TCP.
    #[arg(long)]
    pub(crate) unix: bool,
    /// Registry of the servers.
    #[arg(long, value_enum, default_value_t = RegistryName::Http)]
    pub(crate) registry: RegistryName,
    /// Kills, starts and drains no server during the job.
    #[arg(long)]
    pub(crate) calm: bool,
    /// Keeps the cluster running after the job, until Ctrl-C, and prints pages to open and calls to
    /// try.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// A codec, as named on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CodecName {
    /// MessagePack.
    Msgpack,
    /// JSON.
    Json,
}

impl CodecName {
    pub(crate) const fn codec(self) -> Codec {
        match self {
            Self::Msgpack => Codec::MessagePack,
            Self::Json => Codec::Json,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Address to listen on, such as `tcp@127.0.0.1:0` or `unix@/run/demo.sock`. Each address is printed
    /// on a line `listening ADDR`, with its actual port. `tls@` needs --tls-cert.
    #[arg(long, value_name = "ADDR", required_unless_present_any = ["http", "https"])]
    pub(crate) listen: Vec<Address>,
    /// Address to serve HTTP on, such as `127.0.0.1:7080`: farcall connections with `http@`, `connect@`
    /// and `ws@`, calls with plain requests at `/rpc`, and the pages `/debug/farcall`, `/metrics`,
    /// `/healthz` and `/readyz`. It is printed on a line `listening http://...`.
    #[arg(long, value_name = "HOST:PORT", value_parser = http_address)]
    pub(crate) http: Vec<Address>,
    /// Address to serve HTTPS on, for `https@` and `wss@`. Needs --tls-cert.
    #[arg(long, value_name = "HOST:PORT", value_parser = http_address, requires = "tls_cert")]
    pub(crate) https: Vec<Address>,
    /// Serves the files of this directory at the addresses of --http and --https, as pages that may call the server.
    #[arg(long, value_name = "DIR")]
    pub(crate) pages: Option<PathBuf>,
    /// Accepts connections with `tcp@` and `tls@` at the addresses of --http and --https as well,
    /// detected by their first bytes.
    #[arg(long)]
    pub(crate) one_port: bool,
    /// Certificate for `tls@` addresses and --https, in PEM, with its intermediate certificates.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Requires a client certificate of this authority, in PEM, on TLS addresses.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Requires a token from this file: a name, a space and a token on each line.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Registry to register at, such as `http://127.0.0.1:7100/registry` or
    /// `etcd+http://127.0.0.1:2379`, `zookeeper://127.0.0.1:2181` or `srv+http://...?dns=...`.
    #[arg(long, value_name = "URL")]
    pub(crate) registry: Vec<RegistryUrl>,
    /// Address that clients dial, if it differs from --listen; port 0 stands for the port of the first
    /// listening address.
    #[arg(long, value_name = "ADDR")]
    pub(crate) advertise: Vec<Address>,
    /// Zone of the server, for clients that prefer their own zone.
    #[arg(long, value_name = "NAME")]
    pub(crate) zone: Option<String>,
    /// Weight of the server, relative to that of others.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) weight: Option<u16>,
    /// Name that `Echo.whoami` returns, in addition to the process id.
    #[arg(long, value_name = "NAME", default_value = "demo")]
    pub(crate) instance: String,
    /// Time limit of a handshake. Default 10s.
    #[arg(long, value_name = "TIME", value_parser = time_limit)]
    pub(crate) handshake_timeout: Option<Duration>,
    /// Time limit of a handler; 0 is no limit, the default.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) handle_timeout: Option<Duration>,
    /// Maximum number of calls in flight on one connection. Default 1024.
    #[arg(long, value_name = "N", value_parser = count(1 << 24))]
    pub(crate) max_in_flight: Option<usize>,
    /// Size of the largest accepted frame, in bytes. Default 4 MiB.
    #[arg(long, value_name = "BYTES", value_parser = count(u32::MAX as u64))]
    pub(crate) max_frame_bytes: Option<usize>,
    /// Maximum number of connections. Default 65536.
    #[arg(long, value_name = "N", value_parser = count(u32::MAX as u64))]
    pub(crate) max_connections: Option<usize>,
    /// Maximum number of connections from one IP address. Default 8192.
    #[arg(long, value_name = "N", value_parser = count(u32::MAX as u64))]
    pub(crate) max_connections_per_peer: Option<usize>,
    /// Time limit of calls in flight when the server stops.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) drain_timeout: Duration,
    /// Silence after which a client is pinged. Default 10s.
    #[arg(long, value_name = "TIME", value_parser = time_limit)]
    pub(crate) keep_alive_idle: Option<Duration>,
    /// Further silence after which its connection is dead. Default 5s.
    #[arg(long, value_name = "TIME", value_parser = time_limit)]
    pub(crate) keep_alive_timeout: Option<Duration>,
    /// Stops when stdin ends, which happens when the parent process ends.
    #[arg(long, hide = true)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Address to listen on. It is printed on a line `listening http://...`, with its actual port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7100")]
    pub(crate) listen: String,
    /// Time to live of an instance without a heartbeat.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    /// File that keeps the instances across restarts.
    #[arg(long, value_name = "FILE")]
    pub(crate) snapshot: Option<PathBuf>,
    /// Interval of the heartbeats that servers send.
    #[arg(long, value_name = "TIME", default_value = "4m", value_parser = humantime::parse_duration)]
    pub(crate) heartbeat: Duration,
    /// Stops when stdin ends, which happens when the parent process ends.
    #[arg(long, hide = true)]
    pub(crate) exit_with_parent: bool,
}

/// The arguments of an installed program.
#[derive(Debug, Args)]
pub(crate) struct ExternalArgs {
    /// Directory for its data.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Stops when stdin ends, which happens when the parent process ends.
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SrvArgs {
    /// Directory for the zone.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Time to live of an instance without a heartbeat.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    /// Interval of the heartbeats that servers send.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) heartbeat: Duration,
    /// Stops when stdin ends, which happens when the parent process ends.
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
}

/// Parses an address for HTTP.
fn http_address(text: &str) -> Result<Address, String> {
    match Address::parse(text) {
        Ok(address) if address.scheme() == Scheme::Tcp => Ok(address),
        Ok(_) => Err("an address for HTTP is host:port".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Parses a time within which something has to be done: with zero, no client could be served.
fn time_limit(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(limit) if limit.is_zero() => Err("a time limit must be above zero".to_owned()),
        Ok(limit) => Ok(limit),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns a parser of numbers from 1 to `max`.
fn count(max: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=max)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn job_arguments_conflict_with_subcommands() {
        let arguments = ["demo", "--repeat", "2", "server", "--listen", "127.0.0.1:0"];
        assert!(Cli::try_parse_from(arguments).is_err());
    }

    #[test]
    fn server_needs_an_address_and_complete_tls_arguments() {
        let server =
            |words: &str| Cli::try_parse_from(["demo", "server"].into_iter().chain(words.split(' ')));
        for good in ["--listen 127.0.0.1:0", "--http 127.0.0.1:0", "--https [::1]:0 --tls-cert a --tls-key b"]
        {
            assert!(server(good).is_ok(), "{good}");
        }
        for bad in [
            "--one-port",
            "--http unix@/tmp/socket",
            "--http http@127.0.0.1:0",
            "--http 127.0.0.1",
            "--https 127.0.0.1:0",
            "--https 127.0.0.1:0 --tls-cert a",
            "--listen tls@127.0.0.1:0 --tls-key a",
            "--listen 127.0.0.1:0 --tls-client-ca a",
        ] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_are_positive() {
        assert!(Cli::try_parse_from(["demo", "--servers", "0"]).is_err());
        assert!(Cli::try_parse_from(["demo", "--concurrency", "0"]).is_err());
        for (flag, zero) in [
            ("--handshake-timeout", "0s"),
            ("--keep-alive-idle", "0s"),
            ("--keep-alive-timeout", "0s"),
            ("--max-in-flight", "0"),
            ("--max-frame-bytes", "0"),
            ("--max-connections", "0"),
            ("--max-connections-per-peer", "0"),
            ("--weight", "0"),
        ] {
            let server = ["demo", "server", "--listen", "127.0.0.1:0", flag, zero];
            let error = Cli::try_parse_from(server).unwrap_err().to_string();
            assert!(error.contains(flag), "{error}");
        }
    }
}
