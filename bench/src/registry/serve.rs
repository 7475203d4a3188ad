//! The registry as a separate process: default settings, with a snapshot on disk.

use std::io::Write;
use std::path::Path;

use axum::serve::ListenerExt;
use farcall_registry::server::{Registry, RegistryOptions};
use tokio::net::TcpListener;

use crate::process::ServerProcess;

/// Serves until it is killed. Its first line is its address.
pub(crate) async fn serve(snapshot: &Path) -> anyhow::Result<()> {
    let registry = Registry::open(RegistryOptions::default().snapshot(snapshot)).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = registry.router(&[address]);
    println!("{address}");
    std::io::stdout().flush()?;
    // Without this, an event to a watcher may wait for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
    tokio::select! {
        served = axum::serve(listener, router).into_future() => Ok(served?),
        () = registry.run(std::future::pending()) => Ok(()),
    }
}

/// Such a process, and the directory of its snapshot.
pub(super) struct RegistryProcess {
    // Before the directory, so that it has ended when that goes.
    server: ServerProcess,
    _dir: tempfile::TempDir,
}

impl RegistryProcess {
    pub(super) fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let snapshot = dir.path().join("snapshot").display().to_string();
        let server = ServerProcess::start(&["serve-registry", "--snapshot", &snapshot])?;
        Ok(Self { server, _dir: dir })
    }

    pub(super) fn address(&self) -> &str {
        &self.server.address
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.pid()
    }
}
