//! A server that is reached over every transport, and a relay that breaks connections.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that cannot set up has failed")]

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use farcall_client::{Channel, ConnectionOptions};
use farcall_http::{HttpOptions, ServeOptions, router, serve_with};
use farcall_protocol::{Bytes, Status};
use farcall_server::{Limits, Receiver, Sender, Server, ServerBuilder, ServerHandle};
use farcall_test_support::frames::read_option;
use farcall_test_support::http;
use farcall_test_support::pki::Certificate;
use farcall_test_support::wait::within_patience;
pub use farcall_test_support::wait::{PATIENCE, until};
use farcall_transport::{Address, Dialer, Listener, TlsClient, TlsServer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub mod feed;

pub const MS: Duration = Duration::from_millis(1);
pub const S: Duration = Duration::from_secs(1);
/// The largest frame that both sides of a [`World`] accept.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
/// The handshake of the protocol's vectors: an Option that asks for MessagePack.
pub const OPTION: &[u8] =
    b"\0\0\0\x4a{\"magic_number\":3405691582,\"version\":1,\"codec_type\":\"application/msgpack\"}";

/// A server and its address.
pub struct World {
    pub scheme: &'static str,
    /// The address without its scheme.
    pub place: String,
    pub handle: ServerHandle,
    /// The number of running handlers of `Probe.sleep`.
    pub running: Arc<AtomicUsize>,
    /// Ready when both the server and its HTTP listener have ended.
    pub ended: JoinHandle<()>,
    _dir: TempDir,
}

impl World {
    pub async fn new(scheme: &'static str) -> World {
        World::with(scheme, HttpOptions::default(), ServeOptions::default()).await
    }

    /// Starts a server that is dialed with `scheme`. After the prefix `one_port_`, as in `one_port_tcp`, the
    /// port serves both HTTP and calls without it.
    pub async fn with(scheme: &'static str, settings: HttpOptions, limits: ServeOptions) -> World {
        let one_port = scheme.strip_prefix("one_port_");
        let is_plain_rpc = one_port.is_some();
        let scheme = one_port.unwrap_or(scheme);
        let dir = TempDir::new().unwrap();
        let running = Arc::new(AtomicUsize::new(0));
        let builder = services(&running);
        let plain = match scheme {
            "tcp" if !is_plain_rpc => Some("tcp@127.0.0.1:0".to_owned()),
            "unix" => Some(format!("unix@{}/socket", dir.path().display())),
            _ => None,
        };
        let (handle, place, ended);
        if let Some(address) = plain {
            let server = builder.listen(address).bind().await.unwrap();
            let address = server.addresses().next().unwrap().to_string();
            place = address.split_once('@').unwrap().1.to_owned();
            handle = server.handle();
            ended = tokio::spawn(server.serve());
        } else {
            let server = builder.build().unwrap();
            handle = server.handle();
            let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
            place = listener.address().socket_addr().unwrap().to_string();
            let router = router(handle.clone(), settings);
            let limits =
                if matches!(scheme, "tls" | "https" | "wss") { limits.tls(tls_server()) } else { limits };
            let limits = if is_plain_rpc { limits.plain_rpc(handle.clone()) } else { limits };
            let stop = handle.clone();
            ended = tokio::spawn(async move {
                let http = serve_with(listener, router, limits, async { stop.ended().await });
                tokio::join!(server.serve(), http);
            });
        }
        World { scheme, place, handle, running, ended, _dir: dir }
    }

    pub fn address(&self) -> String {
        format!("{}@{}", self.scheme, self.place)
    }

    /// Returns a channel to the server.
    pub fn channel(&self) -> Channel {
        channel_to(&self.address())
    }

    pub async fn wait_for_running(&self, count: usize) {
        let scheme = self.scheme;
        until(&format!("{scheme}: {count} handlers run"), || self.running.load(Ordering::SeqCst) == count)
            .await;
    }

    /// Sends bytes over a new connection, and returns what the server sends until it closes.
    pub async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.place).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        within_patience("the whole answer", stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Sends `GET` for a path, and returns the whole answer.
    pub async fn get(&self, path: &str) -> String {
        let answer = http::ask(self.place.parse().unwrap(), "GET", path).await.unwrap();
        String::from_utf8(answer.bytes).unwrap()
    }
}

pub fn channel_to(address: &str) -> Channel {
    channel_with(address, Dialer::default())
}

pub fn channel_with(address: &str, dialer: Dialer) -> Channel {
    let dialer = dialer.tls(tls_client());
    let options = ConnectionOptions::default().max_frame_bytes(MAX_FRAME).dialer(dialer);
    Channel::builder().to(address).options(options).build().unwrap()
}

/// Returns a self-signed certificate for this machine.
fn certificate() -> &'static Certificate {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    CERTIFICATE.get_or_init(|| Certificate::self_signed(&["127.0.0.1", "calc.internal"]))
}

fn tls_server() -> TlsServer {
    let Certificate { chain, key } = certificate();
    TlsServer::builder().certificate_pem(chain.as_str(), key.as_str()).build().unwrap()
}

pub fn tls_client() -> TlsClient {
    TlsClient::builder().roots_pem(certificate().chain.as_str()).build().unwrap()
}

/// Reads the first frame that the server sends: its Option, or a refusal of the handshake.
pub async fn first_frame(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut input = BytesMut::new();
    let frame = within_patience("the server's Option", read_option(stream, &mut input)).await;
    String::from_utf8(frame.unwrap().to_vec()).unwrap()
}

/// Counts a running handler until it returns or is cancelled.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn services(running: &Arc<AtomicUsize>) -> ServerBuilder {
    let (running, ticking) = (Arc::clone(running), Arc::clone(running));
    Server::builder()
        .limits(Limits::default().max_frame_bytes(MAX_FRAME))
        .method("Echo.echo", |args: Value| async move { args["text"].clone() })
        .try_method("Echo.fail", |_: Value| async move { Err::<(), _>("as asked".to_owned()) })
        .method("Probe.peer", |cx: farcall_context::Context, _: Value| {
            let peer = cx.peer().to_owned();
            async move { peer }
        })
        .method("Probe.certificate", |cx: farcall_context::Context, _: Value| {
            let name = cx.certificate().and_then(|certificate| certificate.name());
            async move { name }
        })
        .method("Probe.sleep", move |args: Value| {
            running.fetch_add(1, Ordering::SeqCst);
            let guard = Running(Arc::clone(&running));
            async move {
                let _guard = guard;
                match args["ms"].as_u64() {
                    Some(ms) => sleep(Duration::from_millis(ms)).await,
                    None => pending().await,
                }
                "awake"
            }
        })
        .try_stream_out("Feed.count", async |(from, to): (u64, u64), mut out: Sender<u64>| {
            for number in from..to {
                out.send(number).await?;
            }
            Ok::<_, Status>(to - from)
        })
        .try_stream_in("Feed.sum", async |_: Value, mut items: Receiver<i64>| {
            let mut sum = 0;
            while let Some(item) = items.recv().await {
                sum += item?;
            }
            Ok::<i64, Status>(sum)
        })
        .try_stream_both("Feed.echo", async |_: Value, mut items: Receiver<Bytes>, mut out: Sender<Bytes>| {
            let mut count = 0;
            while let Some(item) = items.recv().await {
                out.send(item?).await?;
                count += 1;
            }
            Ok::<u64, Status>(count)
        })
        .try_stream_in("Feed.first", async |(n,): (u64,), mut items: Receiver<i64>| {
            for _ in 0..n {
                items.recv().await.transpose()?;
            }
            Ok::<_, Status>(n)
        })
        .try_stream_out("Feed.fail_after", async |(n,): (u64,), mut out: Sender<u64>| {
            for number in 0..n {
                out.send(number).await.map_err(|error| error.to_string())?;
            }
            Err::<(), _>("as asked".to_owned())
        })
        .try_stream_out("Feed.ticks", move |_: Value, mut out: Sender<u64>| {
            ticking.fetch_add(1, Ordering::SeqCst);
            let guard = Running(Arc::clone(&ticking));
            async move {
                let _guard = guard;
                for number in 0.. {
                    out.send(number).await?;
                    sleep(MS).await;
                }
                Ok::<_, Status>(())
            }
        })
}

/// A relay between a client and a server that can break the connections that it carries.
pub struct Relay {
    pub place: String,
    cut: CancellationToken,
    _accepting: Accepting,
    _dir: TempDir,
}

/// Stops accepting at the end of the test.
struct Accepting(JoinHandle<()>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Relay {
    pub async fn before(world: &World) -> Relay {
        let dir = TempDir::new().unwrap();
        let (near, far) = match world.scheme {
            "unix" => (format!("unix@{}/relay", dir.path().display()), format!("unix@{}", world.place)),
            _ => ("tcp@127.0.0.1:0".to_owned(), format!("tcp@{}", world.place)),
        };
        let listener = Listener::bind(&Address::parse(&near).unwrap()).await.unwrap();
        let place = listener.address().to_string().split_once('@').unwrap().1.to_owned();
        let far = Address::parse(&far).unwrap();
        let cut = CancellationToken::new();
        let cutting = cut.clone();
        let accepting = tokio::spawn(async move {
            // Only the first connection can be cut.
            let mut cut = Some(cutting);
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut server = Dialer::default().dial(&far).await.unwrap();
                let cut = cut.take().unwrap_or_default();
                tokio::spawn(async move {
                    let carrying = tokio::io::copy_bidirectional(&mut client, &mut server);
                    let _ = cut.run_until_cancelled(carrying).await;
                });
            }
        });
        Relay { place, cut, _accepting: Accepting(accepting), _dir: dir }
    }

    /// Breaks the first connection.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}

pub fn no_args() -> Value {
    json!({})
}
