//! Servers at several registries at once, one of which dies.

use std::time::Duration;

use tokio::time::Instant;

use crate::load::{Calls, Load};
use crate::processes::{Registry, Server, client, found, until};

#[tokio::test(flavor = "multi_thread")]
async fn dead_registry_does_not_affect_clients_of_another() {
    // Longer than a busy machine keeps heartbeats waiting.
    let options = ["--ttl", "6s", "--heartbeat", "500ms"];
    let (dies, lives) = (Registry::start(&options), Registry::start(&options));
    let urls = [dies.url(), lives.url()];
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let mut servers: Vec<_> = (0..3).map(|number| Server::start(&format!("both-{number}"), &urls)).collect();
    for registry in [&dies, &lives] {
        until("all are known", async || registry.list().await.body.instances.len() == servers.len()).await;
    }
    let channel = client(&lives.url());
    let load = Load::start(&channel, Calls::Once);
    load.go_on(100).await;
    let before = found(&channel);
    let rev = lives.list().await.rev;
    dies.kill();

    // Long enough for an instance to expire and to be removed that is not renewed.
    let end = Instant::now() + Duration::from_secs(6 + 2);
    while Instant::now() < end {
        assert_eq!(found(&channel), before);
        load.go_on(10).await;
    }
    assert_eq!(lives.list().await.rev, rev, "the list of the registry that lives has moved");

    // Servers still come and go meanwhile.
    let new = Server::start("both-new", &urls);
    until("the new server is called", async || load.answered_by(new.pid()) > 0).await;
    let leaving = servers.remove(0);
    let address = leaving.stop();
    until("the stopped server leaves", async || !found(&channel).contains(&address)).await;
    load.go_on(100).await;
    load.end().await;
}
