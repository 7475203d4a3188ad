//! [`TargetArgs`] and [`ConnectionArgs`]: the arguments that commands have in common.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use farcall::protocol::Codec;

use crate::time;

/// The target of a command, and how it is connected to.
#[derive(Clone, Debug, Args)]
pub(crate) struct TargetArgs {
    /// Servers: host:port, tls@host:port, unix@/path, http@, https@, ws@, wss@ (several with commas); srv@name of SRV records; a registry,
    /// http://host:port/registry, etcd://host:2379, consul://host:8500, zookeeper://host:2181 or kubernetes://host:6443/namespace, with
    /// #Service; or @context of ~/.config/farcall/contexts.toml.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// The arguments about connections to servers and registries. Each flag replaces what a context says.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Service to look for in a registry. Default: that of the method.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Authorities to trust, in PEM, in place of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Certificate to show to servers, in PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Name that the server's certificate must be for, in place of the host.
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// File whose first line is the token for the servers.
    #[arg(long, value_name = "FILE", group = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// Environment variable with the token for the servers.
    #[arg(long, value_name = "NAME", group = "token")]
    pub(crate) token_env: Option<String>,
    /// Shell command that prints the token for the servers.
    #[arg(long, value_name = "COMMAND", group = "token")]
    pub(crate) token_command: Option<String>,
    /// File whose first line is the token for the registry; for etcd and ZooKeeper, name:password.
    #[arg(long, value_name = "FILE")]
    pub(crate) registry_token_file: Option<PathBuf>,
    /// Time limit of connecting. Default: 5s.
    #[arg(long, value_name = "TIME", value_parser = time::parse_limit)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Time limit of each call.
    #[arg(long, value_name = "TIME", value_parser = time::parse_limit)]
    pub(crate) timeout: Option<Duration>,
    /// Metadata of each call; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) metadata: Vec<(String, String)>,
}

/// A codec, as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CodecName {
    /// JSON, which takes bytes as base64.
    Json,
    /// MessagePack, which programs use.
    Msgpack,
}

impl CodecName {
    pub(crate) const fn codec(self) -> Codec {
        match self {
            Self::Json => Codec::Json,
            Self::Msgpack => Codec::MessagePack,
        }
    }
}

/// Parses `KEY=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
