//! Promise 6: the delay until clients see that a server is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use demo::services::EchoClient;
use farcall::discovery::{Discovery, EndpointList, Subscription, publisher};
use farcall::registry::HttpDiscovery;
use farcall_test_support::http::{Head, ask_with, read_head};
use farcall_test_support::machine::lengthened;
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::processes::{Registry, Server, client, client_of, found, servers, until};
use crate::support::SOON;

/// Longer than a busy machine keeps heartbeats of 500 ms waiting.
const TTL: Duration = Duration::from_secs(6);
/// The interval in which a registry removes expired instances.
const SWEEP: Duration = Duration::from_secs(1);
const REFRESH: Duration = Duration::from_secs(1);
/// The limit that is promised to clients that watch.
const WATCHED: Duration = Duration::from_millis(250);
/// The limit of [`CALLS`] calls right after a crash.
const CALLS_LIMIT: Duration = Duration::from_secs(10);
const CALLS: usize = 50;
/// The number of measurements at most, and of those that must be within the limit.
const TRIES: usize = 8;
const HITS: usize = 2;

/// Returns how long the list still has a server after `go` has ended it.
async fn measure(registry: &Registry, list: &mut Subscription, go: impl Fn(&Server)) -> Duration {
    let server = Server::start("leaving", &[&registry.url()]);
    let has_it = |discovered: &EndpointList| {
        discovered.endpoints.iter().any(|endpoint| endpoint.address.to_string() == server.address)
    };
    timeout(SOON, list.wait_for(has_it)).await.expect("the server is not found").unwrap();
    let goes = Instant::now();
    go(&server);
    timeout(SOON, list.wait_for(|known| !has_it(known))).await.expect("the server stays").unwrap();
    goes.elapsed()
}

/// Measures until it was within the limit often enough. The limit of each measurement grows with the load
/// of the machine.
async fn within(limit: Duration, what: &str, mut measure: impl AsyncFnMut() -> Duration) {
    let (mut measured, mut hits) = (Vec::new(), 0);
    while hits < HITS {
        assert!(measured.len() < TRIES, "{what} is not seen within {limit:?}: {measured:?}");
        let before = lengthened(limit);
        let took = measure().await;
        let limit = before.max(lengthened(limit));
        hits += usize::from(took <= limit);
        measured.push((took, limit));
    }
    println!("{what} is seen after {measured:?}, promised are {limit:?}");
}

/// Follows a list as a client without connections does.
fn follow(discovery: HttpDiscovery, tasks: &mut JoinSet<()>) -> Subscription {
    let (publisher, list) = publisher();
    tasks.spawn(discovery.run(publisher));
    list
}

fn stop(server: &Server) {
    server.signal(Signal::TERM);
}

fn kill(server: &Server) {
    server.signal(Signal::KILL);
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_client_sees_a_stop_within_250_ms_and_a_crash_at_its_expiry() {
    let registry = Registry::start(&["--ttl", "6s", "--heartbeat", "500ms"]);
    let _others = servers(2, &registry).await;
    let mut tasks = JoinSet::new();
    let mut list = follow(HttpDiscovery::new(&registry.url(), "Echo").unwrap(), &mut tasks);
    within(WATCHED, "a graceful stop", async || measure(&registry, &mut list, stop).await).await;
    within(TTL + SWEEP, "a crash", async || measure(&registry, &mut list, kill).await).await;
}

/// The same by a channel, whose list is what calls go by.
#[tokio::test(flavor = "multi_thread")]
async fn watching_channel_removes_a_stopped_server_within_250_ms() {
    let registry = Registry::start(&["--ttl", "10s", "--heartbeat", "2s"]);
    let _others = servers(2, &registry).await;
    let channel = client(&registry.url());
    channel.connect().await.unwrap();
    within(WATCHED, "a graceful stop, by a channel,", async || {
        let server = Server::start("leaving", &[&registry.url()]);
        until("it is found", async || found(&channel).contains(&server.address)).await;
        let goes = Instant::now();
        stop(&server);
        until("it has left", async || !found(&channel).contains(&server.address)).await;
        goes.elapsed()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_client_sees_both_at_most_a_refresh_later() {
    let registry = Registry::start(&["--ttl", "6s", "--heartbeat", "500ms"]);
    let _others = servers(2, &registry).await;
    let proxy = SimpleOnly::start(&registry).await;
    let mut tasks = JoinSet::new();
    let mut list = follow(HttpDiscovery::new(&proxy.url, "Echo").unwrap().poll_interval(REFRESH), &mut tasks);
    // The registry's own delay, and that of the request.
    let limit = REFRESH + WATCHED;
    within(limit, "a graceful stop, by polls,", async || measure(&registry, &mut list, stop).await).await;
    let limit = TTL + SWEEP + REFRESH;
    within(limit, "a crash, by polls,", async || measure(&registry, &mut list, kill).await).await;
    let lists = proxy.lists.load(Ordering::Relaxed);
    assert!(lists >= 2 * HITS, "it has not polled: {lists}");
    assert!(proxy.refused.load(Ordering::Relaxed) >= 2, "it has not tried the full interface");
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmed_list_stays_young() {
    let registry = Registry::start(&["--ttl", "60s", "--heartbeat", "20s"]);
    let _servers = servers(2, &registry).await;
    let proxy = SimpleOnly::start(&registry).await;
    let discovery = HttpDiscovery::new(&proxy.url, "Echo").unwrap().poll_interval(Duration::from_millis(100));
    let channel = client_of(discovery);
    channel.connect().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    until("the list is confirmed", async || {
        let before = proxy.lists.load(Ordering::Relaxed);
        until("it is polled", async || proxy.lists.load(Ordering::Relaxed) > before + 1).await;
        channel.endpoints_age().unwrap() < Duration::from_secs(1)
    })
    .await;
}

/// The registry needs another minute to know what the connection knows at once.
#[tokio::test(flavor = "multi_thread")]
async fn crash_is_detected_at_once_over_a_connection() {
    let registry = Registry::start(&["--ttl", "60s", "--heartbeat", "30s"]);
    let mut servers = servers(4, &registry).await;
    let channel = client(&registry.url());
    let echo = EchoClient::new(channel.clone());
    while let Some(victim) = servers.pop().filter(|_| !servers.is_empty()) {
        let pid = victim.pid();
        until("it has answered", async || echo.whoami().await.unwrap().pid == pid).await;
        let before = lengthened(CALLS_LIMIT);
        let address = victim.kill();
        let killed = Instant::now();
        let mut slowest = Duration::ZERO;
        for _ in 0..CALLS {
            let begun = Instant::now();
            let who = echo.whoami().await.unwrap();
            assert!(servers.iter().any(|server| server.pid() == who.pid), "{who:?}");
            slowest = slowest.max(begun.elapsed());
        }
        let took = killed.elapsed();
        let limit = before.max(lengthened(CALLS_LIMIT));
        println!("{CALLS} calls went elsewhere within {took:?}, the slowest took {slowest:?}");
        assert!(took < limit, "{CALLS} calls took {took:?} instead of at most {limit:?}");
        // The registry still lists it.
        assert!(registry.find(&address).await.is_some());
        assert!(found(&channel).contains(&address));
    }
}

/// A registry of which only the simple interface can be reached.
struct SimpleOnly {
    url: String,
    /// The number of requests to the simple interface, and to the full one.
    lists: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl SimpleOnly {
    async fn start(registry: &Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/registry", listener.local_addr().unwrap());
        let (lists, refused) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counted, counted_refused) = (Arc::clone(&lists), Arc::clone(&refused));
        let registry = registry.address();
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let count = |path: &str| if path.starts_with("/v1/") { &counted_refused } else { &counted };
                let Some(head) = read_head(&mut stream).await else { continue };
                count(&head.path).fetch_add(1, Ordering::Relaxed);
                // The client may have hung up.
                let _ = forward(stream, registry, &head).await;
            }
        });
        Self { url, lists, refused, _task: task }
    }
}

async fn forward(mut stream: TcpStream, registry: SocketAddr, head: &Head) -> std::io::Result<()> {
    if head.path.starts_with("/v1/") {
        let refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return stream.write_all(refusal.as_bytes()).await;
    }
    let tags: String = head
        .headers
        .split_inclusive("\r\n")
        .filter(|line| line.to_ascii_lowercase().starts_with("if-none-match:"))
        .collect();
    let answer = ask_with(registry, &head.method, &head.path, &tags).await?;
    stream.write_all(&answer.bytes).await
}
