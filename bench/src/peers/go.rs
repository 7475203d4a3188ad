//! Go's net/rpc, by a program in Go that is built here where there is a toolchain for it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

use super::Peer;
use crate::scenario::{Scenario, Work};

/// The program, once it is built.
pub(crate) struct Program(PathBuf);

impl Program {
    /// Builds it.
    ///
    /// # Errors
    ///
    /// There is no Go toolchain, or it can't build it.
    pub(crate) fn build() -> anyhow::Result<Self> {
        let path = std::env::current_exe()?.with_file_name("go-netrpc");
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/go");
        let built =
            Command::new("go").args(["build", "-o"]).arg(&path).arg(".").current_dir(sources).output();
        let built = built.context("there is no Go toolchain")?;
        ensure!(built.status.success(), "go build: {}", String::from_utf8_lossy(&built.stderr).trim());
        Ok(Self(path))
    }

    pub(crate) fn serving(&self, peer: Peer) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["-serve", "-codec", codec(peer)]);
        command
    }

    pub(crate) fn loading(
        &self,
        peer: Peer,
        scenario: Scenario,
        address: &str,
        server: u32,
        ms: u64,
    ) -> Command {
        let bytes = match scenario.work {
            Work::Echo(bytes) => bytes,
            Work::Multiply | Work::Record | Work::MultiplyOrBurn => 0,
        };
        let mut command = Command::new(&self.0);
        command.args(["-codec", codec(peer), "-peer", peer.name(), "-scenario", scenario.name]);
        command.args(["-address", address, "-server", &server.to_string(), "-ms", &ms.to_string()]);
        command.args(["-bytes", &bytes.to_string(), "-connections", &scenario.connections.to_string()]);
        command.args(["-in-flight", &scenario.in_flight.to_string()]);
        command
    }
}

const fn codec(peer: Peer) -> &'static str {
    match peer {
        Peer::GoJsonrpc => "json",
        _ => "gob",
    }
}
