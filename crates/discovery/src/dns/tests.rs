use std::collections::VecDeque;
use std::sync::Mutex;

use farcall_transport::Resolving;
use tokio::time::Instant;

use super::*;
use crate::discovery::{EndpointList, Subscription, publisher};

/// The answer to the next question.
enum Answer {
    Found(&'static [&'static str]),
    Error,
    Silence,
}

use Answer::{Error, Found, Silence};

/// Gives answers one by one, repeats the last one, and records the questions.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    queries: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), queries: Arc::default() }
    }

    /// The pauses between questions.
    fn pauses(&self) -> Vec<Duration> {
        self.queries.lock().unwrap().windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

impl Resolve for Script {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        self.queries.lock().unwrap().push((Instant::now(), format!("{host} {port}")));
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() == 1 { None } else { answers.pop_front() };
        let answer = answer.as_ref().or(answers.front()).expect("an answer is left");
        match answer {
            Found(sockets) => {
                let sockets = sockets.iter().map(|text| text.parse().unwrap()).collect();
                Box::pin(async { Ok(sockets) })
            }
            Error => Box::pin(async { Err(io::Error::other("no such name")) }),
            Silence => Box::pin(std::future::pending()),
        }
    }
}

fn run(script: &Script) -> Subscription {
    let (publisher, subscription) = publisher();
    let source = DnsDiscovery::new("tcp@Arith.Internal:7001").unwrap().resolver(script.clone());
    tokio::spawn(source.run(publisher));
    subscription
}

fn addresses(found: &EndpointList) -> Vec<String> {
    found.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

async fn until(subscription: &mut Subscription, wanted: &[&str]) -> EndpointList {
    let right = |found: &EndpointList| addresses(found) == wanted && found.failing.is_none();
    subscription.wait_for(right).await.unwrap().clone()
}

async fn until_failing(subscription: &mut Subscription, with: &str) -> EndpointList {
    let right =
        |found: &EndpointList| found.failing.as_ref().is_some_and(|failing| failing.reason.contains(with));
    subscription.wait_for(right).await.unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn each_address_is_an_endpoint_and_changes_are_followed() {
    let script = Script::new([
        Found(&["10.0.0.2:7001", "10.0.0.1:7001"]),
        Found(&["10.0.0.2:7001", "[2001:db8::1]:7001"]),
    ]);
    let mut subscription = run(&script);
    until(&mut subscription, &["tcp@10.0.0.1:7001", "tcp@10.0.0.2:7001"]).await;
    until(&mut subscription, &["tcp@10.0.0.2:7001", "tcp@[2001:db8::1]:7001"]).await;
    assert_eq!(script.queries.lock().unwrap()[0].1, "arith.internal 7001");
}

#[tokio::test(start_paused = true)]
async fn name_is_resolved_every_thirty_seconds_with_jitter() {
    let script = Script::new([Found(&["10.0.0.1:7001"])]);
    let mut subscription = run(&script);
    until(&mut subscription, &["tcp@10.0.0.1:7001"]).await;
    sleep(Duration::from_secs(600)).await;
    let pauses = script.pauses();
    assert!(pauses.len() >= 15, "{pauses:?}");
    let (shortest, longest) = (Duration::from_secs(27), Duration::from_millis(33_010));
    assert!(pauses.iter().all(|pause| (shortest..longest).contains(pause)), "{pauses:?}");
    assert!(pauses.iter().any(|pause| *pause != pauses[0]), "there is no jitter: {pauses:?}");
    let confirmed = subscription.borrow().confirmed.unwrap();
    assert!(confirmed.elapsed() < Duration::from_secs(34), "an answer that says the same confirms the list");
}

#[tokio::test(start_paused = true)]
async fn every_failure_keeps_the_last_list() {
    let script = Script::new([
        Found(&["10.0.0.1:7001"]),
        Error,
        Silence,
        Found(&[]),
        Found(&["0.0.0.0:7001", "[::]:7001", "[::ffff:0.0.0.0]:7001"]),
        Found(&["10.0.0.2:7001"]),
    ]);
    let mut subscription = run(&script);
    until(&mut subscription, &["tcp@10.0.0.1:7001"]).await;
    for reason in ["no such name", "no answer within 10 s", "it has no addresses"] {
        let found = until_failing(&mut subscription, reason).await;
        assert_eq!(addresses(&found), ["tcp@10.0.0.1:7001"], "{reason}");
        let reason = found.failing.unwrap().reason;
        assert!(reason.starts_with("the addresses of arith.internal, port 7001: "), "{reason}");
    }
    until(&mut subscription, &["tcp@10.0.0.2:7001"]).await;
}

#[tokio::test(start_paused = true)]
async fn failure_is_followed_by_quick_retries_that_slow_down() {
    let script = Script::new([Error]);
    let mut subscription = run(&script);
    let found = until_failing(&mut subscription, "no such name").await;
    assert!(found.confirmed.is_none(), "there never was a list");
    sleep(Duration::from_secs(120)).await;
    let pauses = script.pauses();
    for (pause, full) in pauses.iter().zip([1, 2, 4, 8, 15, 15, 15].map(Duration::from_secs)) {
        // Timers are rounded up to a millisecond.
        let bounds = full / 2..=full + Duration::from_millis(1);
        assert!(bounds.contains(pause), "{pause:?} is not within {bounds:?}: {pauses:?}");
    }
    assert!(pauses.len() >= 8, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn ip_address_is_its_own_answer() {
    for text in ["tcp@10.0.0.1:7001", "ws@[::1]:7001"] {
        let (publisher, subscription) = publisher();
        let script = Script::new([Error]);
        DnsDiscovery::new(text).unwrap().resolver(script.clone()).run(publisher).await;
        assert_eq!(addresses(&subscription.borrow()), [text]);
        assert!(script.queries.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn system_resolver_is_the_default() {
    let (publisher, mut subscription) = publisher();
    let running = tokio::spawn(DnsDiscovery::new("tcp@localhost:7001").unwrap().run(publisher));
    let found = subscription.wait_for(|found| found.confirmed.is_some()).await.unwrap().clone();
    assert!(addresses(&found).iter().all(|address| address.ends_with(":7001")), "{found:?}");
    assert!(!found.endpoints.is_empty());
    running.abort();
}

#[test]
fn address_counts_once_whatever_its_form() {
    let sockets =
        ["[::ffff:10.0.0.1]:1", "10.0.0.1:1", "[fe80::1%3]:1", "[fe80::1%4]:1", "10.0.0.1:2", "10.0.0.1:0"];
    let found = endpoints(Scheme::Ws, sockets.iter().map(|text| text.parse().unwrap()).collect());
    let found: Vec<_> = found.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(found, ["ws@10.0.0.1:1", "ws@10.0.0.1:2", "ws@[fe80::1%3]:1", "ws@[fe80::1%4]:1"]);
}

#[test]
fn endless_answer_is_cut_short() {
    let sockets = (1..=2000).rev().map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect();
    let found = endpoints(Scheme::Tcp, sockets);
    assert_eq!(found.len(), MAX_ADDRESSES);
    assert_eq!(found[0].address.port(), Some(1));
}

#[test]
fn address_without_a_name_to_resolve_is_refused() {
    let refused = |text: &str| DnsDiscovery::new(text).unwrap_err();
    for scheme in ["tls", "https", "wss"] {
        let error = refused(&format!("{scheme}@arith.internal:443"));
        assert!(matches!(error, DnsDiscoveryError::NameNeeded { .. }), "{error}");
        assert!(error.to_string().contains(&format!("certificate of a {scheme} server")), "{error}");
    }
    assert!(matches!(refused("unix@/run/arith"), DnsDiscoveryError::NoName { .. }));
    assert!(matches!(refused("tcp@arith.internal:0"), DnsDiscoveryError::Undialable { .. }));
    assert!(matches!(refused("0.0.0.0:7001"), DnsDiscoveryError::Undialable { .. }));
    assert!(matches!(refused("arith.internal"), DnsDiscoveryError::Address(_)));
}
