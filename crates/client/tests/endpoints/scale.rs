//! Ten thousand endpoints, few of them reachable, in lists that keep changing.

use std::collections::HashSet;
use std::thread::{self, ThreadId};

use farcall_client::{Channel, Health};
use farcall_discovery::{Balancer, Candidates, Endpoint, Picker, RoundRobin, StaticList};
use farcall_server::ServerBuilder;
use farcall_transport::Address;
use tokio::time::{Instant, sleep, timeout};

use super::support::{MS, PATIENCE, Running, serve_at, until};

const DEAD: usize = 9_000;
/// Addresses of each of two servers.
const ALIVE: usize = 250;
const ROUNDS: usize = 20;
const CALLS: usize = 20;

/// A server with many addresses, and these.
fn serve(name: &'static str) -> (Running, Vec<Endpoint>) {
    let listen =
        |builder| (1..ALIVE).fold(builder, |builder: ServerBuilder, _| builder.listen("127.0.0.1:0"));
    let running = serve_at(name, "tcp@127.0.0.1:0", listen);
    let endpoints = running.addresses.iter().cloned().map(Endpoint::new).collect();
    (running, endpoints)
}

/// Loopback addresses without a listener.
fn dead() -> Vec<Endpoint> {
    let address = |number: usize| format!("tcp@127.9.{}.{}:9", number / 250, number % 250 + 1);
    (0..DEAD).map(|number| Endpoint::new(address(number).parse().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_live_listed_endpoints_of_ten_thousand_are_called() {
    let (a, b) = (serve("a"), serve("b"));
    let dead = dead();
    let list = StaticList::of([] as [Endpoint; 0]);
    let channel = Channel::builder().discover(list.clone()).timeout(PATIENCE).build().unwrap();
    let begin = Instant::now();
    for round in 0..ROUNDS {
        let (server, endpoints) = if round % 2 == 0 { &a } else { &b };
        // Some of the dead leave, and return as new endpoints in the next round.
        let some = dead.iter().enumerate().filter(|(index, _)| index % ROUNDS != round);
        list.set(some.map(|(_, endpoint)| endpoint.clone()).chain(endpoints.iter().cloned()));
        let call = async || channel.call::<String>("T.who", &()).await.unwrap();
        // Calls before the list arrives are answered by a server of the last one.
        let new = async {
            while call().await != server.name {
                sleep(MS).await;
            }
        };
        timeout(PATIENCE, new).await.expect("the list comes");
        for _ in 0..CALLS {
            assert_eq!(call().await, server.name);
        }
        sleep(100 * MS).await;
    }
    let all = channel.endpoints();
    assert_eq!(all.len(), DEAD - DEAD / ROUNDS + ALIVE);
    assert!(all.iter().all(|one| one.in_flight == 0));
    let alive: HashSet<&Address> = b.1.iter().map(|endpoint| &endpoint.address).collect();
    let well = |one: &&farcall_client::EndpointStatus| matches!(one.health, Health::Healthy);
    let found = all.iter().filter(well).filter(|one| alive.contains(&one.endpoint.address)).count();
    let out = all.len() - all.iter().filter(well).count();
    println!("{out} left out, {found} of {ALIVE} well, after {:?}", begin.elapsed());
    assert_eq!(found, ALIVE);
    assert!(format!("{channel:?}").len() < 1000);
    // Removed endpoints are disconnected.
    until("connections are closed", || a.0.handle.connections() == 0).await;
    drop(channel);
    until("all are closed", || b.0.handle.connections() == 0).await;
}

/// Tells where pickers are made.
#[derive(Debug)]
struct Watched(std::sync::mpsc::Sender<ThreadId>);

impl Balancer for Watched {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        self.0.send(thread::current().id()).unwrap();
        RoundRobin.picker(candidates)
    }

    fn describe(&self) -> String {
        "watched".to_owned()
    }
}

#[tokio::test]
async fn pickers_of_many_endpoints_are_made_where_no_task_waits_for_them() {
    for (count, is_here) in [(10, true), (5_000, false)] {
        let (made, pickers) = std::sync::mpsc::channel();
        let list = StaticList::of(dead().into_iter().take(count));
        let channel = Channel::builder().discover(list).balancer(Watched(made)).build().unwrap();
        channel.call::<String>("T.who", &()).await.unwrap_err();
        drop(channel);
        let own = thread::current().id();
        let threads: Vec<_> = pickers.try_iter().collect();
        assert!(!threads.is_empty() && threads.iter().all(|thread| (*thread == own) == is_here), "{count}");
    }
}
