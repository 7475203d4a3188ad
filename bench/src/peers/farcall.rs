//! farcall with everything at its default, but for what a peer's name says.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use farcall::client::ConnectionOptions;
use farcall::discovery::StaticList;
use farcall::protocol::Codec;
use farcall::server::{Limits, ServerBuilder};
use farcall::transport::{Address, Listener};
use farcall::transport::{TlsClient, TlsServer};
use farcall::{Bytes, Channel, Server};
use nix::time::{ClockId, clock_gettime};
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::client::Client;

#[derive(Serialize, Deserialize)]
struct Multiply {
    a: i64,
    b: i64,
}

#[derive(Serialize, Deserialize)]
struct Echo {
    data: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Burn {
    micros: u64,
}

/// The deadline of a call, where it has one.
const DEADLINE: Duration = Duration::from_secs(10);

fn server() -> ServerBuilder {
    Server::builder()
        .method("Arith.multiply", |args: Multiply| async move { args.a * args.b })
        .method("Echo.echo", |args: Echo| async move { args.data })
        .method("Arith.burn", |args: Burn| async move { burn(Duration::from_micros(args.micros)) })
        // All clients are one peer here, and `idle` has more than the default allows one.
        .limits(Limits::default().max_connections_per_peer(65_536))
}

/// Keeps the thread busy until it has used so much CPU time.
fn burn(time: Duration) {
    let used = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::MAX, Duration::from);
    let end = used() + time;
    while used() < end {
        (0..1000).for_each(|_| std::hint::spin_loop());
    }
}

pub(super) async fn serve(listen: &[String]) -> anyhow::Result<()> {
    bound(listen.iter().fold(server(), |server, address| server.listen(&**address)), "").await
}

/// The certificate's file stands behind the address.
pub(super) async fn serve_tls(directory: &Path) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?.pem();
    let roots = directory.join("roots.pem");
    std::fs::write(&roots, &certificate)?;
    let tls = TlsServer::builder().certificate_pem(certificate, key.serialize_pem()).build()?;
    bound(server().listen("tls@127.0.0.1:0").tls(tls), &roots.to_string_lossy()).await
}

async fn bound(server: ServerBuilder, rest: &str) -> anyhow::Result<()> {
    let server = server.bind().await?;
    let words: Vec<_> = server.addresses().map(ToString::to_string).chain([rest.to_owned()]).collect();
    println!("{}", words.join(" "));
    server.serve().await;
    Ok(())
}

pub(super) async fn serve_http() -> anyhow::Result<()> {
    let server = server().build()?;
    let handle = server.handle();
    let router = farcall::http::router(handle.clone(), farcall::http::HttpOptions::default());
    let listener = Listener::bind(&Address::parse("127.0.0.1:0")?).await?;
    println!("{}", listener.address().to_string().replace("tcp@", "http@"));
    let http = farcall::http::serve(listener, router, async { handle.ended().await });
    tokio::join!(server.serve(), http);
    Ok(())
}

#[derive(Clone)]
pub(crate) struct Connected {
    channel: Channel,
    deadline: Option<Duration>,
}

async fn connected(address: &str, options: ConnectionOptions) -> anyhow::Result<Connected> {
    let channel = Channel::builder().to(address).options(options).build()?;
    channel.connect().await?;
    Ok(Connected { channel, deadline: None })
}

pub(super) async fn connect(address: &str, codec: Codec) -> anyhow::Result<Connected> {
    connected(address, ConnectionOptions::default().codec(codec)).await
}

pub(super) async fn connect_tls(address: &str) -> anyhow::Result<Connected> {
    let (address, roots) = address.split_once(' ').unwrap_or((address, ""));
    let tls = TlsClient::builder().roots_file(roots).build()?;
    connected(address, ConnectionOptions::default().tls(tls)).await
}

pub(super) async fn connect_full(addresses: &str) -> anyhow::Result<Connected> {
    let channel = Channel::builder().discover(StaticList::new(addresses.split_whitespace())?).build()?;
    channel.connect().await?;
    Ok(Connected { channel, deadline: Some(DEADLINE) })
}

/// As a program has it in production: at `info`, or at what `RUST_LOG` says.
pub(super) fn log_at_info() {
    let filter = EnvFilter::new(std::env::var("RUST_LOG").as_deref().unwrap_or("info"));
    // A second one in a process changes nothing.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

impl Client for Connected {
    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        let call = self.channel.call("Arith.multiply", &Multiply { a, b });
        Ok(match self.deadline {
            Some(deadline) => call.timeout(deadline).await?,
            None => call.await?,
        })
    }

    async fn echo(&self, data: bytes::Bytes) -> anyhow::Result<bytes::Bytes> {
        let call = self.channel.call::<Bytes>("Echo.echo", &Echo { data: data.into() });
        Ok(match self.deadline {
            Some(deadline) => call.timeout(deadline).await?,
            None => call.await?,
        }
        .into_inner())
    }

    async fn burn(&self, time: Duration) -> anyhow::Result<()> {
        Ok(self.channel.call("Arith.burn", &Burn { micros: time.as_micros() as u64 }).await?)
    }
}

/// Several connections, of which each call takes the next.
#[derive(Clone)]
pub(crate) struct ByTurns {
    connections: Arc<[Connected]>,
    calls: Arc<AtomicUsize>,
}

pub(super) async fn connect_turns(addresses: &str) -> anyhow::Result<ByTurns> {
    let mut connections = Vec::new();
    for address in addresses.split_whitespace() {
        connections.push(connect(address, Codec::MessagePack).await?);
    }
    Ok(ByTurns { connections: connections.into(), calls: Arc::default() })
}

impl ByTurns {
    fn next(&self) -> &Connected {
        &self.connections[self.calls.fetch_add(1, Relaxed) % self.connections.len()]
    }
}

impl Client for ByTurns {
    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        self.next().multiply(a, b).await
    }

    async fn echo(&self, data: bytes::Bytes) -> anyhow::Result<bytes::Bytes> {
        self.next().echo(data).await
    }

    async fn burn(&self, time: Duration) -> anyhow::Result<()> {
        self.next().burn(time).await
    }
}
