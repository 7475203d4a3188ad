//! Promise 5: a server stops gracefully, no call fails, and streams go on at others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use farcall::Channel;
use farcall::client::ConnectionOptions;
use farcall::discovery::RoundRobin;
use farcall::registry::HttpDiscovery;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::load::{Calls, Load};
use crate::processes::{Registry, Server, client, found, servers, until};

const RESTARTS: usize = 50;
const SUBSCRIPTIONS: usize = 1000;
/// The pause of a subscriber between two items: what is tested is not how much two cores can do.
const ITEM_PAUSE: Duration = Duration::from_millis(200);
/// The window of a subscriber, in bytes: about as many items as it takes while a server restarts.
const WINDOW: usize = 1024;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_rolling_restarts_fail_no_call() {
    let registry = Registry::start(&["--ttl", "10s", "--heartbeat", "2s"]);
    let mut servers = servers(3, &registry).await;
    let channel = client(&registry.url());
    let load = Load::start(&channel, Calls::Once);
    let begun = Instant::now();
    for restart in 0..RESTARTS {
        let position = restart % servers.len();
        let leaving = servers.remove(position);
        let pid = leaving.pid();
        until("the server to be stopped takes calls", async || load.answered_by(pid) > 0).await;
        let address = leaving.stop();
        load.assert_no_failures();
        until("the stopped server has left", async || !found(&channel).contains(&address)).await;

        let coming = Server::start(&format!("restart-{restart}"), &[&registry.url()]);
        until("the new server is found", async || found(&channel).contains(&coming.address)).await;
        servers.insert(position, coming);
    }
    load.go_on(100).await;
    let calls = load.end().await;
    println!("{RESTARTS} restarts in {:?}, {calls} calls, none failed", begun.elapsed());
    // The load was continuous.
    assert!(calls > 20 * RESTARTS as u64, "{calls} calls are hardly a load");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_rolling_restarts_lose_and_repeat_no_item_of_a_thousand_subscriptions() {
    let registry = Registry::start(&["--ttl", "10s", "--heartbeat", "2s"]);
    let mut servers = servers(3, &registry).await;
    let channel = subscriber(&registry.url());
    let stop = Arc::<AtomicBool>::default();
    let mut subscriptions = JoinSet::new();
    for _ in 0..SUBSCRIPTIONS {
        subscriptions.spawn(subscribe(channel.clone(), Arc::clone(&stop)));
    }
    let open = || channel.metrics().streams.open == SUBSCRIPTIONS;
    until("all subscriptions are open", async || open()).await;
    let begun = Instant::now();
    for restart in 0..RESTARTS {
        let position = restart % servers.len();
        let address = servers.remove(position).stop();
        until("the stopped server has left", async || !found(&channel).contains(&address)).await;
        let coming = Server::start(&format!("restart-{restart}"), &[&registry.url()]);
        until("the new server is found", async || found(&channel).contains(&coming.address)).await;
        servers.insert(position, coming);
        assert!(subscriptions.try_join_next().is_none(), "a subscription ended");
    }
    stop.store(true, Ordering::Relaxed);
    let mut items = 0;
    while let Some(subscription) = subscriptions.join_next().await {
        items += subscription.unwrap();
    }
    let resumed = channel.metrics().streams.resumed;
    println!("{RESTARTS} restarts in {:?}, {items} items, {resumed} streams resumed", begun.elapsed());
    // Each restart ended a third of them, or so.
    assert!(resumed >= (SUBSCRIPTIONS * RESTARTS / 10) as u64, "{resumed} are hardly all that had to");
}

/// A channel with places for all subscriptions at two servers.
fn subscriber(url: &str) -> Channel {
    let options = ConnectionOptions::default().stream_window(WINDOW).max_stream_window(WINDOW);
    let builder = Channel::builder().discover(HttpDiscovery::new(url, "Feed").unwrap());
    builder.balancer(RoundRobin).options(options).connections(4).build().unwrap()
}

/// Takes numbers until told to stop. Returns how many came, one after the other.
async fn subscribe(channel: Channel, stop: Arc<AtomicBool>) -> u64 {
    let numbers = channel.call::<u64>("Feed.count", &(0, u64::MAX)).receive::<u64>().idempotent();
    let mut numbers = numbers.resume(|last| (*last + 1, u64::MAX)).await.unwrap();
    let mut expected = 0;
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(numbers.next().await.unwrap().unwrap(), expected);
        expected += 1;
        sleep(ITEM_PAUSE).await;
    }
    expected
}
