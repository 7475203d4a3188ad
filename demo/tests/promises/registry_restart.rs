//! Promises 1 and 3: the registry is down, and it restarts, with its snapshot and without it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use farcall_registry::wire::InstanceBody;
use farcall_test_support::machine::lengthened;
use tokio::time::{Instant, sleep};

use crate::load::{Calls, Load};
use crate::processes::{Registry, SERVICES, Server, client, found, servers, until, until_file};

/// The interval of heartbeats, and the time within which a list is complete again.
const HEARTBEAT: Duration = Duration::from_secs(2);
const BACK_WITHIN: Duration = Duration::from_millis(2_400);
/// A machine that is busy elsewhere makes a measurement late, now and then.
const TRIES: usize = 4;

fn options(snapshot: &Path) -> [&str; 6] {
    ["--ttl", "6s", "--heartbeat", "2s", "--snapshot", snapshot.to_str().unwrap()]
}

/// Waits until the snapshot has every server in it, each with its services, and was written by
/// a registry that knew that they are all.
fn until_saved(snapshot: &Path, servers: &[Server]) {
    until_file(snapshot, |text| {
        servers.iter().all(|server| text.contains(&server.address))
            && text.matches("\"registered_at\"").count() == SERVICES * servers.len()
            && text.rfind("\"warming\":false") > text.rfind("\"warming\":true")
    });
}

/// Measured is from the moment at which the new registry says that it listens to the one at which a
/// request shows that all servers have registered again, each by its own heartbeat.
#[tokio::test(flavor = "multi_thread")]
async fn list_is_rebuilt_without_a_snapshot_and_no_call_fails() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("registry.json");
    let mut registry = Registry::start(&options(&snapshot));
    let servers = servers(3, &registry).await;
    let channel = client(&registry.url());
    let load = Load::start(&channel, Calls::Once);
    load.go_on(100).await;

    let mut measured = Vec::new();
    while !measured.iter().any(|(took, limit)| took <= limit) {
        assert!(measured.len() < TRIES, "it takes longer than 1.2 heartbeats: {measured:?}");
        let before = registry.list().await.epoch;
        let place = registry.kill();
        remove(place.snapshot());
        let restarts = Instant::now();
        registry = place.restart();
        let listens = Instant::now();

        // It reports that it is warming, and so does its list.
        let ready = registry.ask("GET", "/readyz").await;
        let list = registry.ask("GET", "/registry?service=Echo").await;
        if restarts.elapsed() < HEARTBEAT {
            assert_eq!(ready.status, 503, "{}", ready.head);
            assert!(String::from_utf8_lossy(&ready.body).contains("warming"));
            assert!(list.head.contains("\r\nx-farcall-warming: 1"), "{}", list.head);
        }
        assert_eq!(list.status, 200);

        let mut warmed_at = None;
        until("all servers are listed again", async || {
            let listed = registry.list().await;
            assert_ne!(listed.epoch, before);
            if !listed.warming {
                warmed_at.get_or_insert(listens.elapsed());
            }
            // Clients keep their list.
            assert_eq!(channel.endpoints().len(), 3, "{:?}", channel.endpoints());
            listed.body.instances.len() == servers.len()
        })
        .await;
        measured.push((listens.elapsed(), lengthened(BACK_WITHIN)));
        println!("without a snapshot: the whole list after {:?}, warm {warmed_at:?}", listens.elapsed());
        load.assert_no_failures();
    }
    until("warming ends", async || registry.ask("GET", "/readyz").await.status == 200).await;
    let list = registry.ask("GET", "/registry?service=Echo").await;
    assert!(!list.head.contains("x-farcall-warming"), "{}", list.head);
    assert_eq!(found(&channel).len(), 3);
    // The client follows the new registry: it finds a new server.
    let new = Server::start("new", &[&registry.url()]);
    until("the new server is found", async || found(&channel).contains(&new.address)).await;
    load.go_on(500).await;
    load.end().await;
}

/// Measured is from the moment at which the new registry says that it listens to the one at which
/// every server has sent a heartbeat to it. The list is whole at once.
#[tokio::test(flavor = "multi_thread")]
async fn list_is_complete_at_once_with_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("registry.json");
    let mut registry = Registry::start(&options(&snapshot));
    let servers = servers(3, &registry).await;
    let channel = client(&registry.url());
    let load = Load::start(&channel, Calls::Once);
    load.go_on(100).await;
    until_saved(&snapshot, &servers);

    let mut measured = Vec::new();
    while !measured.iter().any(|(took, limit)| took <= limit) {
        assert!(measured.len() < TRIES, "it takes longer than 1.2 heartbeats: {measured:?}");
        registry = registry.kill().restart();
        let (listens, clock) = (Instant::now(), SystemTime::now());
        let restored = registry.list().await;
        assert_eq!(restored.body.instances.len(), servers.len());
        assert!(!restored.warming);
        assert_eq!(registry.ask("GET", "/readyz").await.status, 200);

        until("all servers have sent a heartbeat", async || {
            assert_eq!(registry.list().await.body.instances.len(), servers.len());
            assert_eq!(channel.endpoints().len(), servers.len());
            let mut heard_of = 0;
            for server in &servers {
                let path = format!("/v1/services/Echo/instances/{}", server.address);
                let one: InstanceBody =
                    serde_json::from_slice(&registry.ask("GET", &path).await.body).unwrap();
                heard_of += usize::from(SystemTime::from(one.record.last_seen.unwrap()) > clock);
            }
            heard_of == servers.len()
        })
        .await;
        measured.push((listens.elapsed(), lengthened(BACK_WITHIN)));
        println!("with its snapshot: all heartbeats after {:?}", listens.elapsed());
        load.assert_no_failures();
    }
    assert!(load.end().await > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn list_ages_and_a_killed_server_is_avoided_while_the_registry_is_down() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("registry.json");
    // Longer than the longest pause of servers that cannot renew.
    let long = ["--ttl", "40s", "--heartbeat", "16s", "--snapshot", snapshot.to_str().unwrap()];
    let registry = Registry::start(&long);
    let mut servers = servers(3, &registry).await;
    let channel = client(&registry.url());
    // Idempotent calls, since a server is killed during some of them.
    let load = Load::start(&channel, Calls::Idempotent);
    load.go_on(100).await;
    until_saved(&snapshot, &servers);

    let place = registry.kill();
    // The client may read at first what the registry had sent before.
    let mut down = Instant::now();
    until("the client has noticed", async || {
        let passed = down.elapsed();
        if channel.endpoints_age().unwrap() < passed {
            down = Instant::now();
        }
        passed > Duration::from_millis(500)
    })
    .await;
    let mut ages = Vec::new();
    while ages.len() < 4 {
        sleep(Duration::from_millis(500)).await;
        let passed = down.elapsed();
        let age = channel.endpoints_age().unwrap();
        assert!(age >= passed, "the list is {age:?} old, the registry is down for {passed:?}");
        assert!(ages.last().is_none_or(|last| age > *last), "{age:?} after {ages:?}");
        ages.push(age);
    }

    let victim = servers.remove(0);
    let pid = victim.pid();
    let before = load.answered_by(pid);
    assert!(before > 0, "the server that is killed had no calls");
    let address = victim.kill();
    until("the killed server is left", async || {
        let endpoints = channel.endpoints();
        let dead = endpoints.iter().find(|status| status.endpoint.address.to_string() == address);
        // It stays in the unchanged list.
        dead.unwrap().connections == 0 && format!("{:?}", dead.unwrap().health).starts_with("Unreachable")
    })
    .await;
    assert_eq!(found(&channel).len(), 3);
    load.go_on(500).await;

    let registry = place.restart();
    let listens = Instant::now();
    until("the list is young again", async || {
        channel.endpoints_age().unwrap() <= listens.elapsed() + Duration::from_millis(1)
    })
    .await;
    println!("the list was {:?} old, and was renewed {:?} after the restart", ages.last(), listens.elapsed());
    // The client that has run all the time is told of new servers.
    let new = Server::start("new", &[&registry.url()]);
    until("the new server is found", async || found(&channel).contains(&new.address)).await;
    until("the new server is called", async || load.answered_by(new.pid()) > 0).await;
    load.end().await;
    for server in servers {
        server.stop();
    }
}

/// An outage of many heartbeats, by the end of which servers pause for 7 to 15 s between two tries.
/// Measured as without a snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn list_is_rebuilt_after_a_long_outage_and_no_call_fails() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("registry.json");
    let mut registry = Registry::start(&options(&snapshot));
    let servers = servers(3, &registry).await;
    let channel = client(&registry.url());
    let load = Load::start(&channel, Calls::Once);
    load.go_on(100).await;

    let mut measured = Vec::new();
    while !measured.iter().any(|(took, limit)| took <= limit) {
        assert!(measured.len() < TRIES, "it takes longer than 1.2 heartbeats: {measured:?}");
        let place = registry.kill();
        remove(place.snapshot());
        sleep(8 * HEARTBEAT).await;
        load.assert_no_failures();
        registry = place.restart();
        let listens = Instant::now();
        until("all servers are listed again", async || {
            assert_eq!(channel.endpoints().len(), 3, "a server that lives is lost, {:?}", listens.elapsed());
            registry.list().await.body.instances.len() == servers.len()
        })
        .await;
        measured.push((listens.elapsed(), lengthened(BACK_WITHIN)));
        println!("after a long outage: the whole list after {:?}", listens.elapsed());
    }
    load.go_on(100).await;
    load.end().await;
}

/// Has the next registry start without a snapshot, whether this one was written or not.
fn remove(snapshot: &str) {
    if let Err(error) = std::fs::remove_file(snapshot) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    }
}
