//! The server of a host, as a child process: with the default limits, on all addresses, and on a Unix socket for the trial's
//! own questions.

use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farcall::server::{Server, ServerHandle};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::ledger::Ledger;

/// The port for calls.
pub(super) const PORT: u16 = 7000;

/// The arguments of `Net.work`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) id: u64,
    /// The time that the handler waits.
    pub(super) millis: u64,
    /// Text that is sent back.
    pub(super) text: String,
}

/// The result of `Net.work`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Worked {
    pub(super) id: u64,
    /// The number of the host.
    pub(super) host: u8,
    pub(super) text: String,
}

/// The things that a server holds for its clients.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Holds {
    pub(super) connections: usize,
    pub(super) calls: usize,
}

#[derive(Deserialize)]
struct Nothing {}

/// Serves until the process is killed.
pub(crate) fn serve(host: u8, socket: &Path, ledger: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ledger = Arc::new(Ledger::open(ledger)?);
    runtime.block_on(async {
        let handle = Arc::new(std::sync::OnceLock::<ServerHandle>::new());
        let own = Arc::clone(&handle);
        let server = Server::builder()
            .try_method("Net.work", move |work: Work| {
                let ledger = Arc::clone(&ledger);
                async move {
                    ledger.begun(work.id).map_err(|error| error.to_string())?;
                    sleep(Duration::from_millis(work.millis)).await;
                    Ok::<_, String>(Worked { id: work.id, host, text: work.text })
                }
            })
            .method("Net.wait", |_: Nothing| pending::<()>())
            .method("Net.holds", move |_: Nothing| {
                let own = own.get();
                // Without the connection and the call that ask.
                let others = |count: usize| count.saturating_sub(1);
                let holds = own.map(|own| Holds {
                    connections: others(own.connections()),
                    calls: others(own.in_flight()),
                });
                async move { holds }
            })
            .listen(format!("tcp@0.0.0.0:{PORT}").as_str())
            .listen(format!("unix@{}", socket.display()).as_str())
            .bind()
            .await?;
        let _ = handle.set(server.handle());
        println!("listening");
        server.serve().await;
        Ok(())
    })
}
