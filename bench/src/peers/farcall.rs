//! farcall with everything at its default, but for what a peer's name says.

use std::borrow::Cow;
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
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::test_certificate::TestCertificate;
use crate::client::Client;
use crate::record::{Record, texts, with_record_fields};

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

macro_rules! borrowed_record {
    ($($field:ident = $number:tt,)+) => {
        /// The record as it lies in its request.
        #[derive(Serialize, Deserialize)]
        pub(crate) struct BorrowedRecord<'a> {
            $(#[serde(borrow)] $field: Cow<'a, str>,)+
        }

        impl BorrowedRecord<'_> {
            fn new() -> Self {
                let mut texts = texts();
                let mut next = || Cow::Borrowed(texts.next().unwrap_or_default());
                Self { $($field: next(),)+ }
            }

            fn bytes(&self) -> u64 {
                (0 $(+ self.$field.len())+) as u64
            }
        }
    };
}
with_record_fields!(borrowed_record);

/// Counts the bytes of a record, which each method takes in its form.
#[farcall::service]
pub(crate) trait Records {
    async fn count(&self, record: Record) -> u64;
    async fn count_borrowed(&self, record: BorrowedRecord<'_>) -> u64;
}

struct Counting;

impl Records for Counting {
    async fn count(&self, record: Record) -> u64 {
        record.bytes()
    }

    async fn count_borrowed(&self, record: BorrowedRecord<'_>) -> u64 {
        record.bytes()
    }
}

/// The deadline of a call, where it has one.
const DEADLINE: Duration = Duration::from_secs(10);

fn server() -> ServerBuilder {
    Server::builder()
        .method("Arith.multiply", |args: Multiply| async move { args.a * args.b })
        .method("Echo.echo", |args: Echo| async move { args.data })
        .method("Arith.burn", |args: Burn| async move { burn(Duration::from_micros(args.micros)) })
        .service(Counting.into_service())
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
    let own = TestCertificate::create(directory)?;
    let tls = TlsServer::builder().certificate_pem(own.certificate, own.key).build()?;
    bound(server().listen("tls@127.0.0.1:0").tls(tls), &own.roots.to_string_lossy()).await
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

    async fn count_record(&self) -> anyhow::Result<u64> {
        let call = RecordsClient::new(self.channel.clone()).count(Record::new());
        Ok(match self.deadline {
            Some(deadline) => call.timeout(deadline).await?,
            None => call.await?,
        })
    }

    async fn burn(&self, time: Duration) -> anyhow::Result<()> {
        Ok(self.channel.call("Arith.burn", &Burn { micros: time.as_micros() as u64 }).await?)
    }
}

/// A connection whose calls borrow their arguments, on both sides.
#[derive(Clone)]
pub(crate) struct Borrowing(Connected);

pub(super) async fn connect_borrowing(address: &str) -> anyhow::Result<Borrowing> {
    Ok(Borrowing(connect(address, Codec::MessagePack).await?))
}

impl Client for Borrowing {
    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        self.0.multiply(a, b).await
    }

    async fn echo(&self, data: bytes::Bytes) -> anyhow::Result<bytes::Bytes> {
        self.0.echo(data).await
    }

    async fn count_record(&self) -> anyhow::Result<u64> {
        Ok(RecordsClient::new(self.0.channel.clone()).count_borrowed(BorrowedRecord::new()).await?)
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

    async fn count_record(&self) -> anyhow::Result<u64> {
        self.next().count_record().await
    }

    async fn burn(&self, time: Duration) -> anyhow::Result<()> {
        self.next().burn(time).await
    }
}
