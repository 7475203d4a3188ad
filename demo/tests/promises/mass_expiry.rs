//! Promise 4: many instances of a service fall silent at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farcall::discovery::AdvertisedState;
use farcall_registry::wire::InstanceRecord;
use farcall_test_support::machine::lengthened;
use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::load::{Calls, Load};
use crate::processes::{Registry, SERVICES, Server, client, servers, until, until_file};

/// Longer than a busy machine keeps heartbeats of 500 ms waiting.
const TTL: Duration = Duration::from_secs(6);
/// The interval in which a registry removes expired instances.
const SWEEP: Duration = Duration::from_secs(1);
/// The delay that a busy machine may add; much less than a time to live.
const SLACK: Duration = Duration::from_millis(500);
const TRIES: usize = 4;

/// The instances with this state, by address.
fn in_state(instances: &[InstanceRecord], state: AdvertisedState) -> Vec<String> {
    let found = instances.iter().filter(|one| one.state == state);
    found.map(|one| one.instance.addr.to_string()).collect()
}

fn sorted(mut addresses: Vec<String>) -> Vec<String> {
    addresses.sort();
    addresses
}

/// Four of ten are killed just before the registry restarts, which gives all of them one whole time to
/// live: those of the four end in the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn four_of_ten_killed_together_are_stale_and_removed_after_another_ttl() {
    // Longer than a server that has met no registry pauses before its next tries.
    const TTL: Duration = Duration::from_secs(4);
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("registry.json");
    let options = ["--ttl", "4s", "--heartbeat", "500ms", "--snapshot", snapshot.to_str().unwrap()];
    let registry = Registry::start(&options);
    let mut servers = servers(10, &registry).await;
    until_file(&snapshot, |text| {
        text.matches("\"registered_at\"").count() == SERVICES * servers.len()
            && text.rfind("\"warming\":false") > text.rfind("\"warming\":true")
    });

    let dead = sorted(servers.drain(..4).map(Server::kill).collect());
    let registry = registry.kill().restart();
    let restarted = Instant::now();
    // The moment before the last request that did not find them stale.
    let mut fresh_at = restarted;
    let mut instances = Vec::new();
    until("they are stale", async || {
        let asked_at = Instant::now();
        instances = registry.list().await.body.instances;
        // No instance is removed before that.
        assert_eq!(instances.len(), 10, "{instances:?}");
        let are_stale = in_state(&instances, AdvertisedState::Stale).len() == dead.len();
        if !are_stale {
            fresh_at = asked_at;
        }
        are_stale
    })
    .await;
    let stale_after = restarted.elapsed();
    assert_eq!(sorted(in_state(&instances, AdvertisedState::Stale)), dead);
    assert_eq!(in_state(&instances, AdvertisedState::Up).len(), servers.len());

    // The simple interface omits them, and they get no calls: listeners at their addresses count connections.
    let simple = registry.ask("GET", "/registry?service=Echo").await;
    let plain: Vec<String> = serde_json::from_slice(&simple.body).unwrap();
    assert_eq!(plain.len(), servers.len());
    assert!(dead.iter().all(|address| !plain.contains(address)));
    let graves = Graves::dig(&dead).await;
    let channel = client(&registry.url());
    let load = Load::start(&channel, Calls::Once);
    load.go_on(500).await;
    for server in &servers {
        assert!(load.answered_by(server.pid()) > 0);
    }
    let watched = channel.endpoints();
    // The client lists them, unless they were removed by now.
    assert!(watched.len() == 10 || fresh_at.elapsed() > TTL - SLACK, "{watched:?}");

    until("they are gone", async || registry.list().await.body.instances.len() == servers.len()).await;
    let gone_after = fresh_at.elapsed();
    println!("stale {stale_after:?} after the restart, gone {gone_after:?} later");
    assert!(gone_after > TTL - SLACK, "they had no further time to live: {gone_after:?}");
    until("the client has seen it", async || channel.endpoints().len() == servers.len()).await;
    load.end().await;
    assert_eq!(graves.visits(), 0, "a stale server was called though others are up");
}

/// Ten die together. Their last heartbeats, and so the ends of their times to live, are as far apart as
/// heartbeats are, which is longer than the registry's pause between two looks.
#[tokio::test(flavor = "multi_thread")]
async fn ten_of_ten_killed_together_are_stale() {
    let registry = Registry::start(&["--ttl", "9s", "--heartbeat", "3s"]);
    let mut servers = Vec::new();
    for number in 0..10 {
        servers.push(Server::start(&format!("server-{number}"), &[&registry.url()]));
        sleep(Duration::from_millis(300)).await;
    }
    until("every server is known", async || registry.list().await.body.instances.len() == servers.len())
        .await;
    let killed = Instant::now();
    servers.into_iter().for_each(|server| drop(server.kill()));
    until("all of them are stale", async || {
        let instances = registry.list().await.body.instances;
        let stale = in_state(&instances, AdvertisedState::Stale).len();
        assert_eq!(instances.len(), 10, "some are gone after {:?}, {stale} are stale", killed.elapsed());
        stale == 10
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_ten_killed_is_removed_after_its_ttl() {
    let registry = Registry::start(&["--ttl", "6s", "--heartbeat", "500ms"]);
    let mut servers = servers(10, &registry).await;
    let mut measured = Vec::new();
    while !measured.iter().any(|(took, limit)| took <= limit) {
        assert!(measured.len() < TRIES, "it takes longer than that: {measured:?}");
        let address = servers.pop().unwrap().kill();
        let killed = Instant::now();
        until("it is gone", async || {
            let instances = registry.list().await.body.instances;
            assert_eq!(in_state(&instances, AdvertisedState::Stale), Vec::<String>::new());
            instances.iter().all(|one| one.instance.addr.to_string() != address)
        })
        .await;
        measured.push((killed.elapsed(), lengthened(TTL + SWEEP)));
        println!("one of ten was gone {:?} after its kill", killed.elapsed());
        assert_eq!(registry.list().await.body.instances.len(), servers.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_is_applied_at_once() {
    let registry = Registry::start(&["--ttl", "60s", "--heartbeat", "30s"]);
    let servers = servers(10, &registry).await;
    // Suspended, since a live server would register again.
    servers.iter().for_each(|server| server.signal(Signal::STOP));
    for (deleted, server) in servers.iter().enumerate() {
        let path = format!("/v1/services/Echo/instances/{}", server.address);
        for _ in 0..2 {
            assert_eq!(registry.ask("DELETE", &path).await.status, 204);
            assert!(registry.find(&server.address).await.is_none());
        }
        assert_eq!(registry.ask("GET", &path).await.status, 404);
        let left = registry.list().await.body.instances;
        assert_eq!(in_state(&left, AdvertisedState::Up).len(), servers.len() - deleted - 1);
    }
    assert_eq!(registry.ask("GET", "/registry?service=Echo").await.body, b"[]");
}

/// Listeners at the addresses of dead servers, which count connections.
struct Graves {
    visits: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Graves {
    async fn dig(addresses: &[String]) -> Self {
        let visits = Arc::<AtomicUsize>::default();
        let mut tasks = JoinSet::new();
        for address in addresses {
            let address: SocketAddr = address.strip_prefix("tcp@").unwrap().parse().unwrap();
            let listener = TcpListener::bind(address).await.unwrap();
            let visits = Arc::clone(&visits);
            tasks.spawn(async move {
                while listener.accept().await.is_ok() {
                    visits.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { visits, _tasks: tasks }
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::Relaxed)
    }
}
