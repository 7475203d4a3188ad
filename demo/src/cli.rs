//! What may be typed on the command line. What it means is for [`crate::job`], [`crate::server`] and
//! [`crate::registry`].

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use farcall::Address;
use farcall::protocol::Codec;
use farcall::transport::Scheme;

use crate::registry::{RegistryName, RegistryUrl};

/// Counts the words of files on a cluster that it starts, a registry and servers, and checks the
/// answers. In the middle of it, one server is killed, another started, and a third one drained.
#[derive(Debug, Parser)]
#[command(name = "demo", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub(crate) enum Command {
    /// Runs one server alone, until SIGTERM or SIGINT.
    Server(ServerArgs),
    /// Runs the registry alone, until SIGTERM or SIGINT.
    Registry(RegistryArgs),
    /// Keeps an etcd, for as long as the process that started this one lives.
    #[command(hide = true)]
    Etcd(EtcdArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// Files, and directories to search for files; what .gitignore names is left out. Default:
    /// the sources and documents of farcall itself.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) input: Vec<PathBuf>,
    /// How many servers to start.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count(64))]
    pub(crate) servers: usize,
    /// How many calls may be under way at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count(65_536))]
    pub(crate) concurrency: usize,
    /// How often each file is sent.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count(1_000_000_000))]
    pub(crate) repeat: usize,
    /// How messages are encoded.
    #[arg(long, value_enum, default_value_t = CodecName::Msgpack)]
    pub(crate) codec: CodecName,
    /// Puts the servers on unix sockets instead of TCP.
    #[arg(long)]
    pub(crate) unix: bool,
    /// Where the servers register and are found.
    #[arg(long, value_enum, default_value_t = RegistryName::Http)]
    pub(crate) registry: RegistryName,
    /// Lets the servers be: none is killed, started or drained in the middle.
    #[arg(long)]
    pub(crate) calm: bool,
    /// Leaves the cluster running after the job, until Ctrl-C, and says what to open and to call.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// A codec by the name that is typed for it.
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
    /// Where to listen, as in `tcp@127.0.0.1:0` or `unix@/run/demo.sock`. Each address is printed
    /// on a line `listening ADDR`, with the port it got. `tls@` needs --tls-cert.
    #[arg(long, value_name = "ADDR", required_unless_present_any = ["http", "https"])]
    pub(crate) listen: Vec<Address>,
    /// Where to serve HTTP, as in `127.0.0.1:7080`: calls for those who dial `http@`, `connect@` or
    /// `ws@`, calls by plain requests at `/rpc`, and the pages `/debug/farcall`, `/metrics`, `/healthz` and
    /// `/readyz`. It is printed as a line `listening http://...`.
    #[arg(long, value_name = "HOST:PORT", value_parser = http_place)]
    pub(crate) http: Vec<Address>,
    /// The same inside TLS, for `https@` and `wss@`. It needs --tls-cert.
    #[arg(long, value_name = "HOST:PORT", value_parser = http_place, requires = "tls_cert")]
    pub(crate) https: Vec<Address>,
    /// Serves calls without HTTP at the addresses of --http and --https, too: who dials them as `tcp@`
    /// and `tls@` is told apart by the first bytes.
    #[arg(long)]
    pub(crate) one_port: bool,
    /// The certificate for `tls@` addresses and --https, in PEM, with those between it and its authority.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Lets in only clients with a certificate of this authority, in PEM, where there is TLS.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Lets in only clients with a token of this file: a name, a space and a token on each line.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Registers there, as in `http://127.0.0.1:7100/registry` or `etcd+http://127.0.0.1:2379`.
    #[arg(long, value_name = "URL")]
    pub(crate) registry: Vec<RegistryUrl>,
    /// What others dial, where that is not what is listened on; with port 0, the port of the first
    /// address that is listened on.
    #[arg(long, value_name = "ADDR")]
    pub(crate) advertise: Vec<Address>,
    /// Where it stands, for clients that prefer their own zone.
    #[arg(long, value_name = "NAME")]
    pub(crate) zone: Option<String>,
    /// Its share of the calls, against those of others.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) weight: Option<u16>,
    /// What `Echo.whoami` answers beside the process id.
    #[arg(long, value_name = "NAME", default_value = "demo")]
    pub(crate) instance: String,
    /// The time for a handshake. Default 10s.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) handshake_timeout: Option<Duration>,
    /// The longest a handler may run; 0 is no limit, the default.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) handle_timeout: Option<Duration>,
    /// Calls at once on one connection. Default 1024.
    #[arg(long, value_name = "N", value_parser = count(1 << 24))]
    pub(crate) max_in_flight: Option<usize>,
    /// The largest frame that is accepted, in bytes. Default 4 MiB.
    #[arg(long, value_name = "BYTES", value_parser = count(u32::MAX as u64))]
    pub(crate) max_frame_bytes: Option<usize>,
    /// Connections in all. Default 65536.
    #[arg(long, value_name = "N", value_parser = count(u32::MAX as u64))]
    pub(crate) max_connections: Option<usize>,
    /// Connections from one IP address. Default 8192.
    #[arg(long, value_name = "N", value_parser = count(u32::MAX as u64))]
    pub(crate) max_connections_per_peer: Option<usize>,
    /// How long calls may go on once the server is to stop.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) drain_timeout: Duration,
    /// Silence after which a client is pinged. Default 10s.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) keep_alive_idle: Option<Duration>,
    /// Further silence after which its connection is dead. Default 5s.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) keep_alive_timeout: Option<Duration>,
    /// Stops when stdin ends, as it does when the process that started this one is gone.
    #[arg(long, hide = true)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Where to listen. It is printed as a line `listening http://...`, with the port it got.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7100")]
    pub(crate) listen: String,
    /// How long an instance stays without a heartbeat.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    /// Where the instances are kept over a restart.
    #[arg(long, value_name = "FILE")]
    pub(crate) snapshot: Option<PathBuf>,
    /// How often servers are told to send one.
    #[arg(long, value_name = "TIME", default_value = "4m", value_parser = humantime::parse_duration)]
    pub(crate) heartbeat: Duration,
    /// Stops when stdin ends, as it does when the process that started this one is gone.
    #[arg(long, hide = true)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EtcdArgs {
    /// Where it keeps its data.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Stops when stdin ends, as it does when the process that started this one is gone.
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
}

/// Reads where HTTP is served.
fn http_place(text: &str) -> Result<Address, String> {
    match Address::parse(text) {
        Ok(address) if address.scheme() == Scheme::Tcp => Ok(address),
        Ok(_) => Err("HTTP is served at host:port".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads a number from 1 to `most`.
fn count(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_job_and_a_server_are_not_asked_for_together() {
        let typed = ["demo", "--repeat", "2", "server", "--listen", "127.0.0.1:0"];
        assert!(Cli::try_parse_from(typed).is_err());
    }

    #[test]
    fn a_server_listens_somewhere_and_tls_has_all_that_it_needs() {
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
    fn no_limit_may_be_zero() {
        assert!(Cli::try_parse_from(["demo", "--servers", "0"]).is_err());
        assert!(Cli::try_parse_from(["demo", "--concurrency", "0"]).is_err());
    }
}
