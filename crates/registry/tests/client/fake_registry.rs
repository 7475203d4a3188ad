//! [`FakeRegistry`]: a small HTTP server that answers with scripted bytes, well-formed or not.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall_discovery::{Discovery, EndpointList, Subscription, publisher};
use farcall_registry::client::HttpDiscovery;
use farcall_test_support::http::read_head;
use farcall_test_support::wait::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// The timeout of clients in tests of timeouts.
pub(crate) const SHORT_TIMEOUT: Duration = Duration::from_millis(700);
/// The refresh interval of clients, and their pause after failures.
pub(crate) const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// A received request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.target.split('?').next() == Some(path)
    }
}

/// The reaction to a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These bytes; then the connection is closed.
    Bytes(Vec<u8>),
    /// These bytes; then a second request is read, and the connection closed without a response.
    KeepAliveThenClose(Vec<u8>),
    /// These bytes; then a second request is read, and the connection reset.
    KeepAliveThenReset(Vec<u8>),
    /// These bytes; then the connection stays open.
    Hold(Vec<u8>),
    /// These bytes, then those of the feed, until its sender is dropped.
    Stream(Vec<u8>, Feed),
    /// These bytes, then this many more.
    Flood(Vec<u8>, usize),
    /// No response: the connection is reset.
    Reset,
}

/// The further bytes of a [`Reply::Stream`]: those that are in it, and those that are added.
pub(crate) type Feed = watch::Receiver<Vec<u8>>;

/// Returns a response with this status, headers and body.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
            .into_bytes(),
    )
}

pub(crate) fn json(body: &str) -> Reply {
    answer("200 OK", "content-type: application/json\r\n", body)
}

pub(crate) fn not_found() -> Reply {
    answer("404 Not Found", "", "")
}

type Script = Arc<Mutex<Box<dyn FnMut(&Request) -> Reply + Send>>>;

/// The server, which stops when it is dropped.
pub(crate) struct FakeRegistry {
    pub(crate) address: SocketAddr,
    script: Script,
    requests: Arc<Mutex<Vec<Request>>>,
    written: Arc<AtomicUsize>,
    closed_unanswered: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    accepting: AbortHandle,
}

impl FakeRegistry {
    pub(crate) async fn new(script: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Script = Arc::new(Mutex::new(Box::new(script)));
        let (requests, open) = (Arc::default(), Arc::default());
        let (written, closed_unanswered) = (Arc::default(), Arc::default());
        let shared = Shared {
            script: Arc::clone(&script),
            requests: Arc::clone(&requests),
            written: Arc::clone(&written),
            closed_unanswered: Arc::clone(&closed_unanswered),
            open: Arc::clone(&open),
        };
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(shared.clone().serve(stream));
            }
        })
        .abort_handle();
        Self { address, script, requests, written, closed_unanswered, open, accepting }
    }

    /// Replaces the script.
    pub(crate) fn set_script(&self, script: impl FnMut(&Request) -> Reply + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/registry", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the number of bytes of floods that were sent.
    pub(crate) fn flooded(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// Returns the number of requests that were not answered because they were the second on their connection.
    pub(crate) fn closed_unanswered(&self) -> usize {
        self.closed_unanswered.load(Ordering::Relaxed)
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Clone)]
struct Shared {
    script: Script,
    requests: Arc<Mutex<Vec<Request>>>,
    written: Arc<AtomicUsize>,
    closed_unanswered: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Shared {
    async fn serve(self, mut stream: TcpStream) {
        self.open.fetch_add(1, Ordering::Relaxed);
        // A client that closes the connection early is no failure.
        let _ = self.reply(&mut stream).await;
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    async fn reply(&self, stream: &mut TcpStream) -> io::Result<()> {
        let request = read(stream).await?;
        let reply = (self.script.lock().unwrap())(&request);
        self.requests.lock().unwrap().push(request);
        match reply {
            Reply::Bytes(bytes) => {
                stream.write_all(&bytes).await?;
                stream.shutdown().await?;
                // Closing with unread bytes would send a reset.
                while stream.read(&mut [0; 1024]).await? > 0 {}
            }
            Reply::KeepAliveThenClose(bytes) => {
                stream.write_all(&bytes).await?;
                read(stream).await?;
                self.closed_unanswered.fetch_add(1, Ordering::Relaxed);
            }
            Reply::KeepAliveThenReset(bytes) => {
                stream.write_all(&bytes).await?;
                read(stream).await?;
                self.closed_unanswered.fetch_add(1, Ordering::Relaxed);
                stream.set_zero_linger()?;
            }
            Reply::Hold(bytes) => {
                stream.write_all(&bytes).await?;
                while stream.read(&mut [0; 1024]).await? > 0 {}
            }
            Reply::Stream(bytes, mut feed) => {
                stream.write_all(&bytes).await?;
                let mut sent = 0;
                loop {
                    let more = feed.borrow_and_update()[sent..].to_vec();
                    sent += more.len();
                    stream.write_all(&more).await?;
                    tokio::select! {
                        changed = feed.changed() => if changed.is_err() { return Ok(()) },
                        read = stream.read_u8() => return read.map(drop),
                    }
                }
            }
            Reply::Flood(bytes, mut count) => {
                stream.write_all(&bytes).await?;
                while count > 0 {
                    let written = stream.write(&[b' '; 65536][..count.min(65536)]).await?;
                    self.written.fetch_add(written, Ordering::Relaxed);
                    count -= written;
                }
            }
            Reply::Reset => stream.set_zero_linger()?,
        }
        Ok(())
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Request> {
    let head = read_head(stream).await.ok_or(io::ErrorKind::UnexpectedEof)?;
    let fields = head.headers.lines().filter_map(|line| line.split_once(": "));
    let headers = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let mut request = Request { method: head.method, target: head.path, headers, body: String::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    request.body = String::from_utf8(body).unwrap();
    Ok(request)
}

/// Returns a discovery with short intervals.
pub(crate) fn discovery(url: &str) -> HttpDiscovery {
    HttpDiscovery::new(url, "S")
        .unwrap()
        .timeout(PATIENCE)
        .poll_interval(SHORT_PAUSE)
        .backoff(SHORT_PAUSE, SHORT_PAUSE)
}

/// A discovery that runs until this is dropped.
pub(crate) struct RunningDiscovery {
    seen: Subscription,
    running: AbortHandle,
}

impl RunningDiscovery {
    pub(crate) fn of(discovery: HttpDiscovery) -> Self {
        let (publisher, seen) = publisher();
        Self { seen, running: tokio::spawn(discovery.run(publisher)).abort_handle() }
    }

    pub(crate) fn last(&self) -> EndpointList {
        self.seen.borrow().clone()
    }

    /// The ports of the endpoints, by which the tests tell them apart.
    pub(crate) fn ports(&self) -> Vec<u16> {
        ports(&self.seen.borrow())
    }

    pub(crate) async fn wait_until(
        &mut self,
        expected: &str,
        is: impl FnMut(&EndpointList) -> bool,
    ) -> EndpointList {
        let waited =
            tokio::time::timeout(PATIENCE, self.seen.wait_for(is)).await.map(|seen| seen.unwrap().clone());
        waited.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {expected}; it is {:?}", self.seen.borrow()))
    }

    pub(crate) async fn wait_for_ports(&mut self, expected: &[u16]) {
        self.wait_until(&format!("ports {expected:?}, no failure"), |seen| {
            ports(seen) == expected && seen.failing.is_none()
        })
        .await;
    }

    /// Waits for a failure with this reason; returns the whole message.
    pub(crate) async fn wait_for_failure(&mut self, reason: &str) -> String {
        let is = |seen: &EndpointList| {
            seen.failing.as_ref().is_some_and(|failing| failing.reason.contains(reason))
        };
        let seen = self.wait_until(&format!("failing with `{reason}`"), is).await;
        seen.failing.unwrap().reason.to_string()
    }
}

impl Drop for RunningDiscovery {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn ports(seen: &EndpointList) -> Vec<u16> {
    seen.endpoints.iter().filter_map(|endpoint| endpoint.address.port()).collect()
}

/// Returns the JSON of an instance of the service `S`.
pub(crate) fn instance(port: u16) -> String {
    format!(
        r#"{{"service":"S","id":"i{port}","addr":"tcp@10.0.0.1:{port}","state":"up","rev":1,"registered_at":"2031-04-05T06:07:08.009Z"}}"#
    )
}

/// Returns the JSON of a list of the full interface, or of a snapshot.
pub(crate) fn list(epoch: &str, rev: u64, ports: &[u16]) -> String {
    let instances: Vec<_> = ports.iter().map(|&port| instance(port)).collect();
    format!(r#"{{"epoch":"{epoch}","rev":{rev},"instances":[{}]}}"#, instances.join(","))
}
