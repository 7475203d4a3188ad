//! The peers, each with a server and a client.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{anyhow, bail};

use crate::client::WithClients;
use crate::load::{ClosedLoops, Loops, Meter};
use crate::scenario::{Scenario, Work};

mod farcall;
pub(crate) mod go;
#[cfg(feature = "rivals")]
mod jsonrpsee;
mod ping_pong;
mod raw;
#[cfg(feature = "rivals")]
mod tarpc;
mod test_certificate;
// The stubs that are written when this is built name its messages.
#[cfg(feature = "rivals")]
pub(crate) mod tonic;
#[cfg(feature = "rivals")]
mod volo;

/// Defines the peers with their names in tables and options.
macro_rules! peers {
    ($($(#[$doc:meta])* $peer:ident = $name:literal,)+) => {
        /// A peer, as named in tables and options.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Peer {
            $($(#[$doc])* $peer,)+
        }

        impl Peer {
            pub(crate) const ALL: &[Self] = &[$(Self::$peer),+];

            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$peer => $name,)+
                }
            }
        }
    };
}

peers! {
    /// The floor of latency: one call at a time over blocking sockets.
    PingPong = "ping-pong",
    /// The limit: frames that are not decoded, pipelined, one write for each batch.
    Raw = "raw",
    TarpcMsgpack = "tarpc-msgpack",
    TarpcBincode = "tarpc-bincode",
    TarpcBincodeCt = "tarpc-bincode-ct",
    Tonic = "tonic",
    TonicCt = "tonic-ct",
    TonicTls = "tonic-tls",
    VoloMux = "volo-mux",
    VoloPool = "volo-pool",
    JsonrpseeWs = "jsonrpsee-ws",
    JsonrpseeHttp = "jsonrpsee-http",
    GoNetrpc = "go-netrpc",
    GoJsonrpc = "go-jsonrpc",
    Farcall = "farcall",
    FarcallCt = "farcall-ct",
    FarcallJson = "farcall-json",
    FarcallTls = "farcall-tls",
    FarcallUnix = "farcall-unix",
    FarcallHttp = "farcall-http",
    /// With all that one can have by default: a deadline, a picker over three endpoints, a subscriber of
    /// `tracing` at `info`.
    FarcallFull = "farcall-full",
    /// The baseline of `farcall-full` in addition to `farcall`: three connections in turn, and nothing else.
    FarcallTurns = "farcall-turns",
    /// With arguments that are borrowed from the request.
    FarcallBorrowed = "farcall-borrowed",
}

/// The error of other frameworks in a program without them.
#[cfg(not(feature = "rivals"))]
pub(crate) const WITHOUT_RIVALS: &str =
    "the other frameworks are left out: build with the feature `rivals`, a default";

impl Peer {
    /// Returns `true` if its processes use a current-thread runtime instead of two workers.
    pub(crate) const fn is_current_thread(self) -> bool {
        matches!(self, Self::TarpcBincodeCt | Self::TonicCt | Self::FarcallCt)
    }

    pub(crate) const fn is_go(self) -> bool {
        matches!(self, Self::GoNetrpc | Self::GoJsonrpc)
    }

    pub(crate) const fn is_farcall(self) -> bool {
        use Peer::{
            Farcall, FarcallBorrowed, FarcallCt, FarcallFull, FarcallHttp, FarcallJson, FarcallTls,
            FarcallTurns, FarcallUnix,
        };
        matches!(
            self,
            Farcall
                | FarcallCt
                | FarcallJson
                | FarcallTls
                | FarcallUnix
                | FarcallHttp
                | FarcallFull
                | FarcallTurns
                | FarcallBorrowed
        )
    }

    /// Returns `true` if it is another RPC framework, not farcall and not a plain socket.
    pub(crate) const fn is_rival(self) -> bool {
        !self.is_farcall() && !matches!(self, Self::PingPong | Self::Raw)
    }

    /// Returns `true` if the peer supports the scenario.
    pub(crate) const fn takes(self, scenario: &Scenario) -> bool {
        match self {
            Self::PingPong => scenario.in_flight == 1,
            // Everything else of it is as of farcall.
            Self::FarcallBorrowed => matches!(scenario.work, Work::Record),
            _ => match scenario.work {
                Work::Multiply | Work::Echo(_) => true,
                Work::Record => self.takes_records(),
                Work::MultiplyOrBurn => self.is_farcall(),
            },
        }
    }

    const fn takes_records(self) -> bool {
        match self {
            Self::PingPong
            | Self::Raw
            | Self::JsonrpseeWs
            | Self::JsonrpseeHttp
            | Self::GoNetrpc
            | Self::GoJsonrpc => false,
            _ => true,
        }
    }

    /// Returns its settings, in addition to the common ones.
    pub(crate) const fn settings(self) -> &'static str {
        match self {
            Self::PingPong => "blocking std sockets, 16 bytes there and 16 back",
            Self::Raw => "LengthDelimitedCodec, all that one read brought is answered in one write",
            Self::TarpcMsgpack | Self::TarpcBincode => {
                "a task for each call; queues of 1,024, 2,048 calls in flight; frames of at most 8 MiB (its default)"
            }
            Self::TarpcBincodeCt => "as tarpc-bincode, on current-thread runtimes",
            Self::Tonic => {
                "prost, one HTTP/2 connection; 2,048 streams at once, windows of 4 MiB for a stream and 16 for all"
            }
            Self::TonicCt => "as tonic, on current-thread runtimes",
            Self::TonicTls => {
                "as tonic, TLS 1.3 by rustls with ring and a self-signed certificate, as farcall-tls"
            }
            Self::VoloMux => "Thrift binary in TTHeader frames, multiplexed over one connection",
            Self::VoloPool => "the same, a connection for each call in flight, kept in its pool",
            Self::JsonrpseeWs => "one WebSocket; echo as a JSON string; messages of up to 16 MiB, no logging",
            Self::JsonrpseeHttp => "HTTP/1.1 with keep-alive; otherwise as jsonrpsee-ws",
            Self::GoNetrpc => "net/rpc with gob, one connection, GOMAXPROCS=2",
            Self::GoJsonrpc => "net/rpc/jsonrpc, one connection, GOMAXPROCS=2",
            Self::Farcall => "MessagePack over tcp; everything at its default",
            Self::FarcallCt => "as farcall, on current-thread runtimes",
            Self::FarcallJson => "as farcall, JSON",
            Self::FarcallTls => "as farcall, TLS 1.3 by rustls with ring and a self-signed certificate",
            Self::FarcallUnix => "as farcall, a Unix domain socket",
            Self::FarcallHttp => "as farcall, over a connection that was upgraded from HTTP/1.1",
            Self::FarcallFull => {
                "as farcall, with a deadline of 10 s, three endpoints and the default picker, and a subscriber of tracing at \
                 `info`, or at what RUST_LOG says"
            }
            Self::FarcallTurns => "as farcall, three connections by turns without a picker",
            Self::FarcallBorrowed => "as farcall; the strings of the record are `Cow<str>`, on both sides",
        }
    }

    /// Serves on a free port, and prints the address. Files go into `directory`.
    pub(crate) async fn serve(self, directory: &Path) -> anyhow::Result<()> {
        match self {
            Self::PingPong => ping_pong::serve(),
            Self::Raw => raw::serve().await,
            Self::GoNetrpc | Self::GoJsonrpc => bail!("{self} has a program of its own"),
            Self::Farcall | Self::FarcallCt | Self::FarcallJson | Self::FarcallBorrowed => {
                farcall::serve(&["tcp@127.0.0.1:0".to_owned()]).await
            }
            Self::FarcallTls => farcall::serve_tls(directory).await,
            Self::FarcallUnix => {
                farcall::serve(&[format!("unix@{}", directory.join("socket").display())]).await
            }
            Self::FarcallHttp => farcall::serve_http().await,
            Self::FarcallFull => {
                farcall::log_at_info();
                farcall::serve(&["tcp@127.0.0.1:0"; 3].map(str::to_owned)).await
            }
            Self::FarcallTurns => farcall::serve(&["tcp@127.0.0.1:0"; 3].map(str::to_owned)).await,
            #[cfg(feature = "rivals")]
            Self::TarpcMsgpack => tarpc::serve_msgpack().await,
            #[cfg(feature = "rivals")]
            Self::TarpcBincode | Self::TarpcBincodeCt => tarpc::serve_bincode().await,
            #[cfg(feature = "rivals")]
            Self::Tonic | Self::TonicCt => tonic::serve().await,
            #[cfg(feature = "rivals")]
            Self::TonicTls => tonic::serve_tls(directory).await,
            #[cfg(feature = "rivals")]
            Self::VoloMux => volo::serve(true).await,
            #[cfg(feature = "rivals")]
            Self::VoloPool => volo::serve(false).await,
            #[cfg(feature = "rivals")]
            Self::JsonrpseeWs | Self::JsonrpseeHttp => jsonrpsee::serve().await,
            #[cfg(not(feature = "rivals"))]
            _ => bail!(WITHOUT_RIVALS),
        }
    }

    /// Connects and starts the scenario's loops.
    pub(crate) async fn start(
        self,
        address: &str,
        scenario: Scenario,
        meter: &Arc<Meter>,
    ) -> anyhow::Result<Loops> {
        match self {
            Self::PingPong => ping_pong::start(address, scenario, meter),
            Self::Raw => raw::start(address, scenario, meter).await,
            _ => self.with_clients(address, scenario.connections, ClosedLoops { scenario, meter }).await,
        }
    }

    /// Connects `connections` clients, each with one connection, and passes them to `with`.
    pub(crate) async fn with_clients<W: WithClients>(
        self,
        address: &str,
        connections: usize,
        with: W,
    ) -> anyhow::Result<W::Output> {
        use ::farcall::protocol::Codec::{Json, MessagePack};
        macro_rules! connect {
            ($connect:expr) => {{
                let mut clients = Vec::new();
                for _ in 0..connections {
                    clients.push($connect.await?);
                }
                with.run(clients)
            }};
        }
        Ok(match self {
            Self::PingPong | Self::Raw => bail!("{self} is a mere socket"),
            Self::GoNetrpc | Self::GoJsonrpc => bail!("{self} has a program of its own"),
            Self::Farcall | Self::FarcallCt | Self::FarcallUnix | Self::FarcallHttp => {
                connect!(farcall::connect(address, MessagePack))
            }
            Self::FarcallJson => connect!(farcall::connect(address, Json)),
            Self::FarcallTls => connect!(farcall::connect_tls(address)),
            Self::FarcallFull => {
                farcall::log_at_info();
                connect!(farcall::connect_full(address))
            }
            Self::FarcallTurns => connect!(farcall::connect_turns(address)),
            Self::FarcallBorrowed => connect!(farcall::connect_borrowing(address)),
            #[cfg(feature = "rivals")]
            Self::TarpcMsgpack => connect!(tarpc::connect_msgpack(address)),
            #[cfg(feature = "rivals")]
            Self::TarpcBincode | Self::TarpcBincodeCt => connect!(tarpc::connect_bincode(address)),
            #[cfg(feature = "rivals")]
            Self::Tonic | Self::TonicCt => connect!(tonic::connect(address)),
            #[cfg(feature = "rivals")]
            Self::TonicTls => connect!(tonic::connect_tls(address)),
            #[cfg(feature = "rivals")]
            Self::VoloMux => connect!(volo::connect(address, true)),
            #[cfg(feature = "rivals")]
            Self::VoloPool => connect!(volo::connect(address, false)),
            #[cfg(feature = "rivals")]
            Self::JsonrpseeWs => connect!(jsonrpsee::connect_ws(address)),
            #[cfg(feature = "rivals")]
            Self::JsonrpseeHttp => connect!(jsonrpsee::connect_http(address)),
            #[cfg(not(feature = "rivals"))]
            _ => bail!(WITHOUT_RIVALS),
        })
    }
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let known = || Self::ALL.iter().map(|peer| peer.name()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().find(|peer| peer.name() == name);
        found.copied().ok_or_else(|| anyhow!("no peer `{name}`: there are {}", known()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
