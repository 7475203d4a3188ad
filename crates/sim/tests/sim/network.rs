//! The simulated network, and the ways in which connections fail in it.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps an error")]

use std::time::Duration;

use farcall::client::ConnectionOptions;
use farcall::protocol::{Code, Execution, KeepAlive};
use farcall::{Channel, Server};
use farcall_registry::server::RegistryOptions;
use farcall_sim::{Cluster, Link, Sim, SimServer};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// Starts a server, and a channel to it.
fn pair(cluster: &Cluster) -> (SimServer, Channel) {
    let describe = |_: &_| Server::builder().method("T.echo", async |text: String| text);
    let server = cluster.server("server", describe).unwrap();
    let options = ConnectionOptions::default().compression(Vec::new());
    let options = options.keep_alive(KeepAlive::new(SECOND, SECOND));
    let client = cluster.node("client").channel_with(options);
    let channel = client.to(server.node().address()).build().unwrap();
    (server, channel)
}

async fn echo(channel: &Channel) -> Result<Duration, (Code, Execution)> {
    let begin = Instant::now();
    let call = channel.call::<String>("T.echo", &"hello").timeout(20 * SECOND);
    let echoed = call.await.map_err(|error| (error.code(), error.rpc().unwrap().execution()))?;
    assert_eq!(echoed, "hello");
    Ok(begin.elapsed())
}

#[test]
fn latency_and_bandwidth_are_those_of_the_link() {
    Sim::seed(1).run(async |cluster| {
        cluster.links(Link::default().latency(40 * SECOND / 1000, 40 * SECOND / 1000));
        cluster.link("client", "server", Link::default().latency(SECOND, SECOND).bandwidth(10_000));
        let (_server, channel) = pair(&cluster);
        echo(&channel).await.unwrap();
        let took = echo(&channel).await.unwrap();
        assert!(took > 1040 * SECOND / 1000 && took < 1200 * SECOND / 1000, "{took:?}");
        let (begin, large) = (Instant::now(), "x".repeat(5000));
        channel.call::<String>("T.echo", &large).timeout(20 * SECOND).await.unwrap();
        assert!(begin.elapsed() > 1540 * SECOND / 1000, "{:?}", begin.elapsed());
    });
}

#[test]
fn what_was_sent_during_a_short_cut_arrives_after_it() {
    Sim::seed(1).run(async |cluster| {
        let (_server, channel) = pair(&cluster);
        echo(&channel).await.unwrap();
        for (from, to) in [("client", "server"), ("server", "client")] {
            cluster.cut(from, to);
            let (took, ()) = futures::future::join(echo(&channel), async {
                sleep(SECOND).await;
                cluster.heal();
            })
            .await;
            let took = took.unwrap();
            assert!(took > SECOND && took < 2 * SECOND, "{took:?}");
        }
    });
}

#[test]
fn long_cut_is_noticed_in_either_direction() {
    for (from, to) in [("client", "server"), ("server", "client")] {
        Sim::seed(1).run(async |cluster| {
            let (_server, channel) = pair(&cluster);
            echo(&channel).await.unwrap();
            cluster.cut(from, to);
            let begin = Instant::now();
            assert_eq!(echo(&channel).await, Err((Code::Unavailable, Execution::Maybe)));
            assert!(begin.elapsed() < 3 * SECOND, "{:?}", begin.elapsed());
            cluster.heal();
            sleep(5 * SECOND).await;
            echo(&channel).await.unwrap();
        });
    }
}

#[test]
fn killed_server_resets_its_connections_and_refuses_others() {
    Sim::seed(1).run(async |cluster| {
        let (server, channel) = pair(&cluster);
        echo(&channel).await.unwrap();
        server.kill();
        sleep(SECOND).await;
        assert!(!server.is_running());
        assert_eq!(echo(&channel).await, Err((Code::Unavailable, Execution::NotSent)));
        server.restart().unwrap();
        sleep(20 * SECOND).await;
        echo(&channel).await.unwrap();
    });
}

#[test]
fn frozen_server_goes_on_where_it_was() {
    Sim::seed(1).run(async |cluster| {
        let (_server, channel) = pair(&cluster);
        echo(&channel).await.unwrap();
        cluster.freeze("server");
        let (took, ()) = futures::future::join(echo(&channel), async {
            sleep(SECOND).await;
            cluster.thaw("server");
        })
        .await;
        assert!(took.unwrap() > SECOND);
    });
}

#[test]
fn clocks_jump() {
    Sim::seed(1).run(async |cluster| {
        let begin = Instant::now();
        cluster.jump(3600 * SECOND).await;
        assert!(begin.elapsed() >= 3600 * SECOND);
    });
}

#[test]
fn registry_forgets_a_server_that_was_killed_and_one_that_stopped() {
    Sim::seed(1).run(async |cluster| {
        let options = RegistryOptions::default().ttl(10 * SECOND).heartbeat(3 * SECOND);
        let registry = cluster.registry("registry", options).await.unwrap();
        let start = |name: &str| {
            let registry = registry.clone();
            let describe = move |node: &farcall_sim::Node| {
                let server = Server::builder().method("T.echo", async |text: String| text);
                server.register_with(registry.registrar(node))
            };
            cluster.server(name, describe).unwrap()
        };
        let servers = ["a", "b"].map(start);
        let client = cluster.node("client");
        let channel = client.channel_builder().discover(registry.discovery(&client, "T")).build().unwrap();
        sleep(SECOND).await;
        let call = channel.call::<String>("T.echo", &"hello").wait_for_ready(true).timeout(5 * SECOND);
        assert_eq!(call.await.unwrap(), "hello");
        let known =
            || channel.overview().endpoints.into_iter().map(|endpoint| endpoint.address).collect::<Vec<_>>();
        assert_eq!(known(), ["tcp@a:7000", "tcp@b:7000"]);

        servers[0].stop().await;
        sleep(SECOND).await;
        assert_eq!(known(), ["tcp@b:7000"]);
        servers[0].restart().unwrap();
        sleep(SECOND).await;
        servers[1].kill();
        sleep(5 * SECOND).await;
        assert_eq!(known(), ["tcp@a:7000", "tcp@b:7000"]);
        sleep(10 * SECOND).await;
        assert_eq!(known(), ["tcp@a:7000"]);
    });
}

#[test]
#[should_panic(expected = "did not end within")]
fn scenario_that_waits_for_nothing_ends() {
    Sim::seed(1).run(async |_| std::future::pending::<()>().await);
}
