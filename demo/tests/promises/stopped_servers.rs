//! Promise 3, its last sentence: a heartbeat that is answered 404 registers again.

use std::time::Duration;

use demo::services::EchoClient;
use farcall::Channel;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::processes::{Registry, client, found, servers, until};

#[tokio::test(flavor = "multi_thread")]
async fn servers_suspended_past_their_ttl_register_again() {
    // Longer than a busy machine keeps heartbeats waiting.
    let registry = Registry::start(&["--ttl", "6s", "--heartbeat", "500ms"]);
    let servers = servers(3, &registry).await;
    let channel = client(&registry.url());
    channel.connect().await.unwrap();
    // First one server, which expires, then all, which are stale first.
    for still in [&servers[..1], &servers[..]] {
        still.iter().for_each(|server| server.signal(Signal::STOP));
        let begun = Instant::now();
        until("who stands still is forgotten", async || {
            let listed = registry.list().await.body.instances;
            let gone = |address: &String| listed.iter().all(|one| one.instance.addr.to_string() != *address);
            still.iter().all(|server| gone(&server.address))
        })
        .await;
        assert!(begun.elapsed() > Duration::from_secs(1), "that was too soon to be the time to live");
        for server in still {
            let path = format!("/v1/services/Echo/instances/{}/heartbeat", server.address);
            assert_eq!(registry.ask("POST", &path).await.status, 404);
        }
        until("the client has seen it", async || found(&channel).len() == servers.len() - still.len()).await;

        still.iter().for_each(|server| server.signal(Signal::CONT));
        let goes_on = Instant::now();
        until("they are back", async || found(&channel).len() == servers.len()).await;
        println!("{} stood still, and were back after {:?}", still.len(), goes_on.elapsed());
        for server in still {
            let echo = EchoClient::new(Channel::to(&*server.address).unwrap());
            assert_eq!(echo.whoami().await.unwrap().pid, server.pid());
        }
        // They stay registered.
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            assert_eq!(found(&channel).len(), servers.len());
            sleep(Duration::from_millis(100)).await;
        }
    }
}
