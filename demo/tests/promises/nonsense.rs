//! Promise 2: the registry's address answers nonsense.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::registry::HttpDiscovery;
use farcall_test_support::http::{Head, Response, read_head};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::load::{Calls, Load};
use crate::processes::{Registry, Server, client_of, found, servers, until};

const LIST: &str = "/v1/services/Echo/instances?include=stale";
const SIMPLE: &str = "/registry?service=Echo";
/// The number of requests that each kind of nonsense answers.
const QUESTIONS: u64 = 8;
const HUGE: usize = 100_000_000;
static BLANKS: [u8; 64 * 1024] = [b' '; 64 * 1024];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nonsense {
    Error,
    Html,
    Empty,
    NotHttp,
    /// The connection ends in the middle of what was announced.
    CutOff,
    /// All that was announced comes, and is half a list.
    HalfAList,
    Huge,
    Silence,
}

const KINDS: [Nonsense; 8] = [
    Nonsense::Error,
    Nonsense::Html,
    Nonsense::Empty,
    Nonsense::NotHttp,
    Nonsense::CutOff,
    Nonsense::HalfAList,
    Nonsense::Huge,
    Nonsense::Silence,
];

/// The answers of a real registry.
struct Real {
    list: Response,
    simple: Response,
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_registry_answers_change_no_list_and_fail_no_call() {
    // Longer than the longest pause of servers that cannot renew.
    let registry = Registry::start(&["--ttl", "60s", "--heartbeat", "16s"]);
    let servers = servers(3, &registry).await;
    let discovery = HttpDiscovery::new(&registry.url(), "Echo").unwrap();
    // Quicker than by default, for many requests.
    let (first, longest) = (Duration::from_millis(20), Duration::from_millis(100));
    let channel = client_of(discovery.timeout(Duration::from_millis(500)).backoff(first, longest));
    let load = Load::start(&channel, Calls::Once);
    load.go_on(100).await;
    let expected = found(&channel);
    assert_eq!(expected.len(), servers.len());
    let real = Real { list: registry.ask("GET", LIST).await, simple: registry.ask("GET", SIMPLE).await };
    let real = Arc::new(real);

    let place = registry.kill();
    let killed = Instant::now();
    // The client may read what the registry had sent before. By its first question it has.
    let mut asked_at = None;
    for kind in KINDS {
        let answering = Answering::start(place.address, kind, Arc::clone(&real)).await;
        until("the client has asked often enough", async || {
            load.assert_no_failures();
            // No answer is taken for a list or for a confirmation of the last one.
            assert_eq!(found(&channel), expected, "{kind:?}");
            let questions = answering.questions.load(Ordering::Relaxed);
            if questions > 0 {
                let passed = asked_at.get_or_insert_with(Instant::now).elapsed();
                assert!(channel.endpoints_age().unwrap() >= passed, "{kind:?} has confirmed the list");
            }
            questions >= QUESTIONS
        })
        .await;
        load.go_on(50).await;
        println!("{kind:?}: {} answers, {:?} after the kill", QUESTIONS, killed.elapsed());
        answering.end().await;
    }

    // A real registry is used again.
    let registry = place.restart();
    let new = Server::start("new", &[&registry.url()]);
    until("the new server is called", async || load.answered_by(new.pid()) > 0).await;
    until("all servers register again", async || {
        registry.list().await.body.instances.len() == servers.len() + 1
    })
    .await;
    until("the client has found all", async || found(&channel).len() == servers.len() + 1).await;
    load.end().await;
    for server in servers {
        server.stop();
    }
}

/// Something that listens where the registry was.
struct Answering {
    /// The number of the client's GET requests.
    questions: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Answering {
    async fn start(address: SocketAddr, kind: Nonsense, real: Arc<Real>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let questions = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&questions);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(answer(stream, kind, Arc::clone(&real), Arc::clone(&counted)));
            }
        });
        Self { questions, task }
    }

    /// Stops listening.
    async fn end(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Answers one request. The client may hang up at any time.
async fn answer(mut stream: TcpStream, kind: Nonsense, real: Arc<Real>, questions: Arc<AtomicU64>) {
    let Some(Head { method, path, .. }) = read_head(&mut stream).await else { return };
    let watched = path.starts_with("/v1/watch");
    let sent = async {
        match kind {
            Nonsense::Error => {
                stream.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops").await?;
            }
            Nonsense::Html => {
                stream.write_all(&whole("text/html", b"<html><body>Please sign in</body></html>")).await?;
            }
            Nonsense::Empty => stream.write_all(&whole(kind_of(watched), b"")).await?,
            Nonsense::NotHttp => stream.write_all(b"SSH-2.0-nonsense\r\n\r\n").await?,
            Nonsense::CutOff if watched => {
                let half = event(half(&real.list.body));
                stream.write_all(&head(kind_of(watched), None)).await?;
                stream.write_all(&half[..half.len() - 2]).await?;
            }
            Nonsense::CutOff => stream.write_all(half(&real.of(&path).bytes)).await?,
            Nonsense::HalfAList if watched => {
                stream.write_all(&whole(kind_of(watched), &event(half(&real.list.body)))).await?;
            }
            Nonsense::HalfAList => {
                stream.write_all(&whole(kind_of(watched), half(&real.of(&path).body))).await?;
            }
            Nonsense::Huge => {
                stream.write_all(&head(kind_of(watched), None)).await?;
                let first: &[u8] = if watched { b"data: [" } else { b"[" };
                stream.write_all(first).await?;
                // Well-formed up to any point.
                for _ in 0..HUGE / BLANKS.len() {
                    stream.write_all(&BLANKS).await?;
                }
            }
            Nonsense::Silence => std::future::pending().await,
        }
        std::io::Result::Ok(())
    };
    if method == "GET" {
        questions.fetch_add(1, Ordering::Relaxed);
    }
    let _ = sent.await;
}

impl Real {
    fn of(&self, path: &str) -> &Response {
        if path.starts_with("/v1/") { &self.list } else { &self.simple }
    }
}

fn half(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() / 2]
}

/// The event that begins a watch.
fn event(data: &[u8]) -> Vec<u8> {
    [b"event: snapshot\nid: 0-1\ndata: ", data, b"\n\n"].concat()
}

const fn kind_of(watched: bool) -> &'static str {
    if watched { "text/event-stream" } else { "application/json" }
}

fn whole(kind: &str, body: &[u8]) -> Vec<u8> {
    [&*head(kind, Some(body.len())), body].concat()
}

/// Without a length, the body ends with the connection.
fn head(kind: &str, length: Option<usize>) -> Vec<u8> {
    let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{length}Connection: close\r\n\r\n").into_bytes()
}
