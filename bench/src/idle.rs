//! `idle`: the memory of connections that were used once, and wait.

use std::any::Any;
use std::io::{Read, Write};
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::client::{Client, WithClients};
use crate::peers::Peer;
use crate::process::{ServerProcess, raise_open_files, resident_kb, this_program};

pub(crate) const CONNECTIONS: usize = 10_000;
/// Open files of each process that are no such connections.
const OTHER_FILES: u64 = 100;
/// The pause after the last call, in which idle peers release memory.
const SETTLING: Duration = Duration::from_secs(3);
/// The number of concurrent connection attempts: the queues of listeners are bounded.
const AT_ONCE: usize = 50;

#[derive(Args)]
pub(crate) struct Idle {
    /// The peers to measure, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "farcall,tarpc-msgpack,tonic,jsonrpsee-ws")]
    peers: Vec<Peer>,
    /// Number of connections, limited by the process's limit of open files.
    #[arg(long, default_value_t = CONNECTIONS)]
    connections: usize,
    /// Prints one JSON object a line for each peer instead of a table.
    #[arg(long)]
    json: bool,
}

/// Holds connections (used by `idle`).
#[derive(Args)]
pub(crate) struct Holder {
    #[arg(long)]
    pub(crate) peer: Peer,
    #[arg(long)]
    address: String,
    #[arg(long)]
    server: u32,
    #[arg(long)]
    connections: usize,
}

/// The memory of the connections, in kilobytes, beyond that of one connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Held {
    peer: String,
    pub(crate) connections: usize,
    server_kb_before: u64,
    pub(crate) server_kb: u64,
    client_kb_before: u64,
    client_kb: u64,
}

impl Held {
    fn server_kb_each(&self) -> f64 {
        self.server_kb.saturating_sub(self.server_kb_before) as f64 / (self.connections - 1) as f64
    }

    pub(crate) fn client_kb_each(&self) -> f64 {
        self.client_kb.saturating_sub(self.client_kb_before) as f64 / (self.connections - 1) as f64
    }
}

pub(crate) fn run(options: &Idle) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["", "connections", "server, MB", "KB each", "client, MB", "KB each"]);
    for peer in &options.peers {
        let held = hold(*peer, options.connections).with_context(|| peer.to_string())?;
        if options.json {
            println!("{}", serde_json::to_string(&held)?);
        }
        table.add_row([
            held.peer.clone(),
            held.connections.to_string(),
            format!("{:.1}", held.server_kb as f64 / 1e3),
            format!("{:.2}", held.server_kb_each()),
            format!("{:.1}", held.client_kb as f64 / 1e3),
            format!("{:.2}", held.client_kb_each()),
        ]);
    }
    if !options.json {
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("resident memory with idle connections, each used for one call\n{table}");
        println!("The kernel's own, of sockets and their buffers, is not in it.");
    }
    Ok(())
}

/// Lets a server and a client, in two processes, hold this number of connections, or as many as they can.
pub(crate) fn hold(peer: Peer, connections: usize) -> anyhow::Result<Held> {
    let room = usize::try_from(raise_open_files()?.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    if room < connections {
        eprintln!("{room} connections instead of {connections}: that is how many files may be open");
    }
    let connections = connections.min(room);
    ensure!(connections > 1, "there is nothing to measure with fewer than 2 connections");
    let directory = tempfile::tempdir()?;
    let directory_name = directory.path().to_string_lossy();
    let server = ServerProcess::start(&["serve", "--peer", peer.name(), "--directory", &directory_name])?;
    let mut holder = this_program(&["hold", "--peer", peer.name(), "--address", &server.address])?
        .args(["--server", &server.pid().to_string(), "--connections", &connections.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = String::new();
    holder.stdout.take().context("it is piped")?.read_to_string(&mut output)?;
    let status = holder.wait()?;
    ensure!(status.success(), "the client ended with {status}");
    Ok(serde_json::from_str(&output)?)
}

/// Runs the client's side, in a separate process.
pub(crate) async fn run_holder(holder: &Holder) -> anyhow::Result<()> {
    let Holder { peer, server, connections, .. } = *holder;
    // The first one has all be there that is needed once, on both sides.
    let first = connect(holder, 1).await?;
    tokio::time::sleep(SETTLING).await;
    let (server_kb_before, client_kb_before) = (resident_kb(server)?, resident_kb(std::process::id())?);
    let mut held = vec![first];
    for begun in (1..connections).step_by(AT_ONCE) {
        held.push(connect(holder, AT_ONCE.min(connections - begun)).await?);
    }
    tokio::time::sleep(SETTLING).await;
    let held = Held {
        peer: peer.to_string(),
        connections,
        server_kb_before,
        server_kb: resident_kb(server)?,
        client_kb_before,
        client_kb: resident_kb(std::process::id())?,
    };
    println!("{}", serde_json::to_string(&held)?);
    std::io::stdout().flush()?;
    // Not to wait for each of them to close.
    std::process::exit(0)
}

async fn connect(holder: &Holder, connections: usize) -> anyhow::Result<Box<dyn Any + Send>> {
    holder.peer.with_clients(&holder.address, connections, UsedOnce).await?.await
}

/// Makes one call with each client, and keeps them.
struct UsedOnce;

impl WithClients for UsedOnce {
    type Output = Pin<Box<dyn Future<Output = anyhow::Result<Box<dyn Any + Send>>> + Send>>;

    fn run<C: Client>(self, clients: Vec<C>) -> Self::Output {
        Box::pin(async move {
            for client in &clients {
                ensure!(client.multiply(6, 7).await? == 42, "6 * 7 is something else");
            }
            Ok(Box::new(clients) as Box<dyn Any + Send>)
        })
    }
}
