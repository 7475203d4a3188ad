//! The peers: each can serve, and each can be called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::load::{Latencies, Meter, start};
use crate::scenario::Scenario;

mod farcall;
mod raw;
mod tarpc;

/// A peer, by the name that tables and options call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The limit: frames that nobody looks into, pipelined, one write a batch.
    Raw,
    TarpcMsgpack,
    TarpcBincode,
    TarpcBincodeCt,
    Farcall,
    FarcallJson,
}

impl Peer {
    pub(crate) const ALL: &[Self] = &[
        Self::Raw,
        Self::TarpcMsgpack,
        Self::TarpcBincode,
        Self::TarpcBincodeCt,
        Self::Farcall,
        Self::FarcallJson,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::TarpcMsgpack => "tarpc-msgpack",
            Self::TarpcBincode => "tarpc-bincode",
            Self::TarpcBincodeCt => "tarpc-bincode-ct",
            Self::Farcall => "farcall",
            Self::FarcallJson => "farcall-json",
        }
    }

    /// Whether its two processes run a current-thread runtime instead of two workers.
    pub(crate) const fn is_current_thread(self) -> bool {
        matches!(self, Self::TarpcBincodeCt)
    }

    /// Serves on a port of its own, and prints the address.
    pub(crate) async fn serve(self) -> anyhow::Result<()> {
        match self {
            Self::Raw => raw::serve().await,
            Self::TarpcMsgpack => tarpc::serve_msgpack().await,
            Self::TarpcBincode | Self::TarpcBincodeCt => tarpc::serve_bincode().await,
            Self::Farcall | Self::FarcallJson => farcall::serve().await,
        }
    }

    /// Connects and starts the scenario's loops.
    pub(crate) async fn start(
        self,
        address: &str,
        scenario: Scenario,
        meter: &Arc<Meter>,
    ) -> anyhow::Result<JoinSet<anyhow::Result<Latencies>>> {
        let connections = 0..scenario.connections;
        macro_rules! connect {
            ($connect:expr) => {{
                let mut clients = Vec::new();
                for _ in connections {
                    clients.push($connect.await?);
                }
                start(clients, scenario, meter)
            }};
        }
        Ok(match self {
            Self::Raw => raw::start(address, scenario, meter).await?,
            Self::TarpcMsgpack => connect!(tarpc::connect_msgpack(address)),
            Self::TarpcBincode | Self::TarpcBincodeCt => connect!(tarpc::connect_bincode(address)),
            Self::Farcall => connect!(farcall::connect(address, ::farcall::Codec::MessagePack)),
            Self::FarcallJson => connect!(farcall::connect(address, ::farcall::Codec::Json)),
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
