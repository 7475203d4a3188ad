//! [`SrvDiscovery`] against the system's dnsmasq and BIND, and against a name server with wrong answers.

#![cfg(feature = "dns-srv")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use farcall_discovery::{AdvertisedState, Discovery, EndpointList, SrvDiscovery, publisher};
use farcall_test_support::loopback::free_port;
use farcall_test_support::wait::{until, within_patience};
use tempfile::TempDir;
use tokio::task::AbortHandle;

#[allow(dead_code, reason = "the suite of all sources needs more of it")]
mod bind;
mod wrong;

/// A discovery that runs until this is dropped.
struct Watcher {
    seen: farcall_discovery::Subscription,
    running: AbortHandle,
}

impl Watcher {
    fn with(source: SrvDiscovery) -> Self {
        let (publisher, seen) = publisher();
        Self { seen, running: tokio::spawn(source.run(publisher)).abort_handle() }
    }

    async fn until(&mut self, what: &str, is: impl FnMut(&EndpointList) -> bool) -> EndpointList {
        within_patience(what, self.seen.wait_for(is)).await.unwrap().clone()
    }

    /// Waits until the list has these ports and weights, without a failure.
    async fn until_told(&mut self, expected: &[(u16, u16)]) {
        let told = |list: &EndpointList| -> Vec<_> {
            list.endpoints.iter().map(|e| (e.address.port().unwrap(), e.weight)).collect()
        };
        let is = |list: &EndpointList| {
            list.confirmed.is_some() && list.failing.is_none() && told(list) == expected
        };
        self.until(&format!("{expected:?}"), is).await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// A name server with one zone.
struct NameServer {
    dir: TempDir,
    port: u16,
    running: Option<Child>,
}

impl NameServer {
    /// Starts one with these lines of configuration.
    async fn start(lines: &str) -> Self {
        let mut server = Self { dir: tempfile::tempdir().unwrap(), port: 0, running: None };
        // Another program may take the port between its choice and its use.
        for _ in 0..10 {
            server.port = free_port();
            if server.restart(lines).await {
                return server;
            }
        }
        panic!("dnsmasq does not start");
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn source(&self, name: &str) -> SrvDiscovery {
        SrvDiscovery::new(name).unwrap().name_servers([self.address()])
    }

    /// Starts it again with these lines, which it only reads at its start. Returns `false` if it ends at once.
    async fn restart(&mut self, lines: &str) -> bool {
        self.stop();
        let config = self.dir.path().join("config");
        let fixed = "listen-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nno-poll\nlocal=/test/\nlocal-ttl=1\n";
        fs::write(&config, format!("port={}\n{fixed}{lines}", self.port)).unwrap();
        let program = if Path::new("/usr/sbin/dnsmasq").exists() { "/usr/sbin/dnsmasq" } else { "dnsmasq" };
        let mut child = Command::new(program)
            .arg("--no-daemon")
            .arg(format!("--conf-file={}", config.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq is needed; `./test` installs it");
        let address = self.address();
        let mut ended = false;
        until("dnsmasq answers", || {
            ended = child.try_wait().unwrap().is_some();
            ended || TcpStream::connect(address).is_ok()
        })
        .await;
        self.running = Some(child);
        !ended
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_have_weights_priorities_and_addresses_of_both_families() {
    let mut server = NameServer::start(
        "host-record=a.test,10.0.0.1,2001:db8::1\nhost-record=b.test,10.0.0.2\nhost-record=c.test,10.0.0.3\n\
         srv-host=_f._tcp.test,a.test,7001,5,30\nsrv-host=_f._tcp.test,b.test,7002,5,70\n\
         srv-host=_f._tcp.test,c.test,7003,9,0\n",
    )
    .await;
    let mut watcher = Watcher::with(server.source("_f._tcp.test"));
    let list = watcher.until("all", |list| list.endpoints.len() == 4).await;
    let told: Vec<_> = list.endpoints.iter().map(|e| (e.address.to_string(), e.weight, e.state)).collect();
    let (up, later) = (AdvertisedState::Up, AdvertisedState::Stale);
    let expected = [
        ("tcp@10.0.0.1:7001", 15, up),
        ("tcp@10.0.0.2:7002", 70, up),
        ("tcp@10.0.0.3:7003", 100, later),
        ("tcp@[2001:db8::1]:7001", 15, up),
    ];
    assert_eq!(told, expected.map(|(address, weight, state)| (address.to_owned(), weight, state)));

    // Encrypted ones are dialed by name.
    let mut encrypted = Watcher::with(server.source("tls@_f._tcp.test"));
    let list = encrypted.until("all", |list| list.endpoints.len() == 3).await;
    assert_eq!(list.endpoints[0].address.to_string(), "tls@a.test:7001");

    // The name is gone: the last list stays.
    assert!(server.restart("").await);
    let list = watcher.until("failing", |list| list.failing.is_some()).await;
    let reason = list.failing.unwrap().reason;
    assert!(reason.starts_with("the SRV records of _f._tcp.test: the name does not exist"), "{reason}");
    assert_eq!(list.endpoints.len(), 4);
    assert!(server.restart("host-record=a.test,10.0.0.9\nsrv-host=_f._tcp.test,a.test,1,0,1\n").await);
    watcher.until_told(&[(1, 1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_that_does_not_fit_into_a_datagram_is_asked_for_over_tcp() {
    let mut lines = String::new();
    for port in 1..=200 {
        writeln!(lines, "host-record=host-{port}.test,10.0.0.1").unwrap();
        writeln!(lines, "srv-host=_f._tcp.test,host-{port}.test,{port},0,1").unwrap();
    }
    let server = NameServer::start(&lines).await;
    let mut watcher = Watcher::with(server.source("srv@_f._tcp.test"));
    watcher.until("all", |list| list.endpoints.len() == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_followed_and_an_outage_keeps_the_list() {
    let zone = |records: &str| {
        let lines =
            records.split_terminator(' ').map(|record| format!("srv-host=_f._tcp.test,host.test,{record}\n"));
        "host-record=host.test,10.0.0.1\n".to_owned() + &lines.collect::<String>()
    };
    let mut server = NameServer::start(&zone("7001,0,10")).await;
    let mut watcher = Watcher::with(server.source("srv@_f._tcp.test"));
    watcher.until_told(&[(7001, 10)]).await;
    assert!(server.restart(&zone("7001,0,20 7002,0,5")).await);
    watcher.until_told(&[(7001, 20), (7002, 5)]).await;

    server.stop();
    let list = watcher.until("failing", |list| list.failing.is_some()).await;
    assert_eq!(list.endpoints.len(), 2);
    // One that begins now has nothing, and recovers.
    let mut late = Watcher::with(server.source("srv@_f._tcp.test"));
    let list = late.until("failing", |list| list.failing.is_some()).await;
    assert!(list.confirmed.is_none() && list.endpoints.is_empty());
    assert!(server.restart(&zone("7003,0,1")).await);
    watcher.until_told(&[(7003, 1)]).await;
    late.until_told(&[(7003, 1)]).await;

    // Without a target: there is no server.
    assert!(server.restart("srv-host=_f._tcp.test\n").await);
    watcher.until_told(&[]).await;
}

#[tokio::test]
async fn it_ends_without_subscribers() {
    let (publisher, seen) = publisher();
    let source =
        SrvDiscovery::new("x.test").unwrap().name_servers([(Ipv4Addr::LOCALHOST, free_port()).into()]);
    let running = tokio::spawn(source.run(publisher));
    drop(seen);
    until("it ends", || running.is_finished()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bind_answers_with_weights_priorities_and_changes() {
    let mut server = bind::Bind::start().await;
    server.set("six", vec!["A 10.0.0.2".to_owned(), "AAAA 2001:db8::2".to_owned()]);
    server.set_srv(
        "_f._tcp",
        &["5 30 7001 host".to_owned(), "5 70 7002 six".to_owned(), "9 0 7003 host".to_owned()],
    );
    let source = SrvDiscovery::new("srv@_f._tcp.test").unwrap().name_servers([server.address()]);
    let mut watcher = Watcher::with(source);
    let list = watcher.until("all", |list| list.endpoints.len() == 4).await;
    let told: Vec<_> = list.endpoints.iter().map(|e| (e.address.to_string(), e.weight, e.state)).collect();
    let (up, later) = (AdvertisedState::Up, AdvertisedState::Stale);
    let expected = [
        ("tcp@10.0.0.1:7001", 30, up),
        ("tcp@10.0.0.1:7003", 100, later),
        ("tcp@10.0.0.2:7002", 35, up),
        ("tcp@[2001:db8::2]:7002", 35, up),
    ];
    assert_eq!(told, expected.map(|(address, weight, state)| (address.to_owned(), weight, state)));

    // The name is gone: the last list stays.
    server.set("_f._tcp", Vec::new());
    let list = watcher.until("failing", |list| list.failing.is_some()).await;
    let reason = list.failing.unwrap().reason;
    assert!(reason.contains("the name does not exist"), "{reason}");
    assert_eq!(list.endpoints.len(), 4);

    // More records than a datagram has place for, and no more than BIND has for one name.
    let many: Vec<_> = (1..=100).map(|port| format!("0 1 {port} host")).collect();
    server.set_srv("_f._tcp", &many);
    watcher.until("all", |list| list.endpoints.len() == 100).await;
}
