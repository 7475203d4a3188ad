//! Streams that go on at other servers: while servers are restarted one after the other, no subscription loses an item or
//! gets one twice. With real processes and signals; the client runs in this process.
//!
//! `FARCALL_RESTARTS` and `FARCALL_SUBSCRIPTIONS` set how many there are, for a longer run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "promises/processes.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod processes;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use farcall::Channel;
use farcall::client::ConnectionOptions;
use farcall::discovery::RoundRobin;
use farcall::registry::HttpDiscovery;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::processes::{Registry, Server, found, servers, until};

const RESTARTS: usize = 12;
const SUBSCRIPTIONS: usize = 200;
/// The pause of a subscriber between two items: what is tested is not how much two cores can do.
const ITEM_PAUSE: Duration = Duration::from_millis(200);
/// The window of a subscriber, in bytes: about as many items as it takes while a server restarts.
const WINDOW: usize = 1024;

/// The state that all subscribers share.
#[derive(Default)]
struct State {
    /// The number of subscribers that have an item.
    begun: AtomicUsize,
    stop: AtomicBool,
}

/// Returns the number in an environment variable.
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restarts_lose_and_repeat_no_item_of_subscriptions() {
    let (restarts, count) =
        (setting("FARCALL_RESTARTS", RESTARTS), setting("FARCALL_SUBSCRIPTIONS", SUBSCRIPTIONS));
    let registry = Registry::start(&["--ttl", "10s", "--heartbeat", "2s"]);
    let mut servers = servers(3, &registry).await;
    let channel = subscriber(&registry.url());
    let state = Arc::<State>::default();
    let mut subscriptions = JoinSet::new();
    for _ in 0..count {
        subscriptions.spawn(subscribe(channel.clone(), Arc::clone(&state)));
    }
    until("all subscriptions have an item", async || state.begun.load(Ordering::Relaxed) == count).await;
    let begun = Instant::now();
    for restart in 0..restarts {
        let position = restart % servers.len();
        let address = servers.remove(position).stop();
        until("the stopped server has left", async || !found(&channel).contains(&address)).await;
        let coming = Server::start(&format!("restart-{restart}"), &[&registry.url()]);
        until("the new server is found", async || found(&channel).contains(&coming.address)).await;
        servers.insert(position, coming);
        assert!(subscriptions.try_join_next().is_none(), "a subscription ended");
    }
    state.stop.store(true, Ordering::Relaxed);
    let mut items = 0;
    while let Some(subscription) = subscriptions.join_next().await {
        items += subscription.unwrap();
    }
    let resumed = channel.metrics().streams.resumed;
    println!("{restarts} restarts in {:?}, {items} items, {resumed} streams resumed", begun.elapsed());
    // Each restart ended a third of them, or so.
    assert!(resumed >= (count * restarts / 10) as u64, "{resumed} are hardly all that had to");
}

/// A channel with places for all subscriptions at two servers.
fn subscriber(url: &str) -> Channel {
    let options = ConnectionOptions::default().stream_window(WINDOW).max_stream_window(WINDOW);
    let builder = Channel::builder().discover(HttpDiscovery::new(url, "Feed").unwrap());
    builder.balancer(RoundRobin).options(options).connections(4).build().unwrap()
}

/// Takes numbers until told to stop. Returns how many came, one after the other.
async fn subscribe(channel: Channel, state: Arc<State>) -> u64 {
    let numbers = channel.call::<u64>("Feed.count", &(0, u64::MAX)).receive::<u64>().idempotent();
    let mut numbers = numbers.resume(|last| (*last + 1, u64::MAX)).await.unwrap();
    let mut expected = 0;
    while !state.stop.load(Ordering::Relaxed) {
        assert_eq!(numbers.next().await.unwrap().unwrap(), expected);
        if expected == 0 {
            state.begun.fetch_add(1, Ordering::Relaxed);
        }
        expected += 1;
        sleep(ITEM_PAUSE).await;
    }
    expected
}
