//! Consul's registrar and discovery against a stand-in for the agent.
//!
//! The behaviours of every registry are in the tests of the crate `farcall`; here are those of Consul alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

#[allow(dead_code, reason = "the suite of all sources needs more of it")]
mod agent;

use std::time::Duration;

use farcall_consul::{ConsulDiscovery, ConsulOptions, ConsulOptionsError, ConsulRegistrar};
use farcall_discovery::{
    AdvertisedState, Discovery, EndpointList, Instance, Registrar, RegistrarErrorKind, Subscription,
    publisher,
};
use farcall_test_support::wait::{until, within_patience};
use farcall_transport::Scheme;
use serde_json::json;
use tokio::task::AbortHandle;

use self::agent::Agent;

/// A discovery that runs until this is dropped.
struct Watcher {
    seen: Subscription,
    running: AbortHandle,
}

impl Watcher {
    fn with(options: &ConsulOptions, service: &str) -> Self {
        let (publisher, seen) = publisher();
        let discovery = ConsulDiscovery::new(options, service).unwrap();
        Self { seen, running: tokio::spawn(discovery.run(publisher)).abort_handle() }
    }

    async fn until(&mut self, what: &str, is: impl FnMut(&EndpointList) -> bool) -> EndpointList {
        within_patience(what, self.seen.wait_for(is)).await.unwrap().clone()
    }

    /// Waits for these weights, without a failure, in the order of addresses.
    async fn until_weights(&mut self, expected: &[u16]) {
        let is = |seen: &EndpointList| {
            let weights: Vec<_> = seen.endpoints.iter().map(|endpoint| endpoint.weight).collect();
            seen.confirmed.is_some() && seen.failing.is_none() && weights == expected
        };
        self.until(&format!("{expected:?}"), is).await;
    }

    async fn failure(&mut self) -> String {
        let seen = self.until("failing", |seen| seen.failing.is_some()).await;
        seen.failing.unwrap().reason.to_string()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn options(agent: &Agent) -> ConsulOptions {
    ConsulOptions::new(&format!("http://{}", agent.address)).unwrap()
}

fn instance(port: u16) -> Instance {
    Instance::new("Arith", format!("tcp@10.0.0.1:{port}").parse().unwrap())
}

fn other(id: &str, port: u16, weight: u16) -> serde_json::Value {
    json!({"ID": id, "Name": "Arith", "Address": "10.0.0.2", "Port": port, "Weights": {"Passing": weight, "Warning": 1}})
}

#[tokio::test]
async fn index_that_goes_backwards_is_asked_for_from_the_beginning() {
    let agent = Agent::start().await;
    agent.put(other("a", 1, 5));
    agent.set_index(1000);
    let mut watcher = Watcher::with(&options(&agent), "Arith");
    watcher.until_weights(&[5]).await;
    let waits = |agent: &Agent, text: &str| agent.requests().last().unwrap().contains(text);
    until("a query waits", || waits(&agent, "index=1000&wait=55s")).await;
    agent.set_index(7);
    until("it begins again", || waits(&agent, "index=7&wait=55s")).await;
    let asked = agent.requests();
    assert_eq!(asked[asked.len() - 2], "health Arith?", "{asked:?}");
    agent.put(other("b", 2, 6));
    watcher.until_weights(&[5, 6]).await;
}

#[tokio::test]
async fn answers_without_a_change_have_a_limited_rate() {
    let agent = Agent::start().await;
    agent.put(other("a", 1, 5));
    let mut watcher = Watcher::with(&options(&agent), "Arith");
    watcher.until_weights(&[5]).await;
    let before = agent.requests().len();
    let begun = std::time::Instant::now();
    // Each wakes the query that waits.
    while begun.elapsed() < Duration::from_millis(500) {
        agent.wake();
        tokio::task::yield_now().await;
    }
    let asked = agent.requests().len() - before;
    let took = begun.elapsed();
    // Twelve in half a second.
    let most = (took.as_secs_f64() * 24.0).ceil();
    assert!(asked as f64 <= most, "{asked} queries in {took:?}");
}

#[tokio::test]
async fn checks_and_maintenance_change_the_list() {
    let agent = Agent::start().await;
    let registrar = ConsulRegistrar::new(&options(&agent)).unwrap();
    let mut lease = registrar.register(&instance(1)).await.unwrap().lease;
    agent.put(other("web", 2, 7));
    let mut watcher = Watcher::with(&options(&agent), "Arith");
    watcher.until_weights(&[100, 7]).await;
    agent.set_check("web", "warning");
    watcher.until_weights(&[100, 1]).await;
    agent.set_check("web", "critical");
    watcher.until_weights(&[100]).await;
    agent.set_check("farcall", "critical");
    watcher.until_weights(&[]).await;
    registrar.renew(&instance(1), &mut lease).await.unwrap();
    watcher.until_weights(&[100]).await;
    agent.maintain("farcall");
    let draining = |seen: &EndpointList| {
        seen.endpoints.iter().any(|endpoint| endpoint.state == AdvertisedState::Draining)
    };
    watcher.until("draining", draining).await;
}

#[tokio::test]
async fn tags_select_and_the_token_is_read_again() {
    let agent = Agent::start().await;
    agent.require_token("first");
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("token");
    std::fs::write(&path, "first\n# a comment\n").unwrap();
    let options = options(&agent).token_file(&path);
    let (canary, stable) = (options.clone().tag("canary"), options.clone().tag("stable"));
    ConsulRegistrar::new(&canary).unwrap().register(&instance(1).weight(1)).await.unwrap();
    ConsulRegistrar::new(&stable).unwrap().register(&instance(2).weight(2)).await.unwrap();
    Watcher::with(&canary, "Arith").until_weights(&[1]).await;
    Watcher::with(&stable.clone().tag("canary"), "Arith").until_weights(&[]).await;
    let mut all = Watcher::with(&options, "Arith");
    all.until_weights(&[1, 2]).await;

    agent.require_token("second");
    let registrar = ConsulRegistrar::new(&options).unwrap();
    let error = registrar.register(&instance(3)).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), RegistrarErrorKind::Rejected);
    assert!(error.to_string().contains("the token is missing, wrong, or has no permission"), "{error}");
    agent.wake();
    let reason = all.failure().await;
    assert!(reason.contains("Permission denied"), "{reason}");
    std::fs::write(&path, "second\n").unwrap();
    registrar.register(&instance(3).weight(3)).await.unwrap();
    all.until_weights(&[1, 2, 3]).await;
}

#[tokio::test]
async fn wrong_answers_keep_the_list() {
    let agent = Agent::start().await;
    agent.put(other("a", 1, 5));
    let mut watcher = Watcher::with(&options(&agent), "Arith");
    watcher.until_weights(&[5]).await;
    for (status, index, body, expected) in [
        (500, None, "No cluster leader".to_owned(), "`No cluster leader` (status 500)"),
        (200, Some(9), "<html>".to_owned(), "its answer is not Consul's"),
        (200, None, "[]".to_owned(), "it has no header X-Consul-Index"),
    ] {
        agent.fail_next(status, index, body);
        agent.wake();
        let reason = watcher.failure().await;
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(watcher.seen.borrow().endpoints.len(), 1);
        watcher.until_weights(&[5]).await;
    }
}

#[tokio::test]
async fn query_that_waits_has_the_time_that_consul_may_add() {
    let agent = Agent::start().await;
    agent.put(other("a", 1, 5));
    let options = options(&agent).wait(Duration::from_secs(32)).request_timeout(Duration::from_secs(3));
    let mut watcher = Watcher::with(&options, "Arith");
    watcher.until_weights(&[5]).await;
    agent.answer_no_more();
    agent.wake();
    // From here on nothing is answered: the limit is the next timer.
    tokio::time::pause();
    let seen = watcher.seen.wait_for(|seen| seen.failing.is_some()).await.unwrap().clone();
    let reason = seen.failing.unwrap().reason.to_string();
    // 32 s, a sixteenth of it, and 3 s.
    assert!(reason.ends_with("no answer within 37 s"), "{reason}");
}

#[tokio::test]
async fn most_instances_are_taken_and_one_more_is_not() {
    let agent = Agent::start().await;
    agent.put(other("a", 1, 5));
    let up = r#"{"Node":{},"Service":{"Address":"h","Port":1,"Weights":{"Passing":5,"Warning":1}}}"#;
    let down = r#"{"Node":{},"Service":{},"Checks":[{"Status":"critical"}]}"#;
    let entries = |count: usize| format!("[{up},{}]", vec![down; count - 1].join(","));
    agent.fail_next(200, Some(9), entries(100_000));
    let mut watcher = Watcher::with(&options(&agent), "Arith");
    watcher.until_weights(&[5]).await;
    until("the next query", || agent.requests().len() > 1).await;
    // After a list that is not taken it would begin again, without an index.
    assert_eq!(agent.requests()[1], "health Arith?index=9&wait=55s");
    agent.fail_next(200, Some(10), entries(100_001));
    agent.wake();
    let reason = watcher.failure().await;
    assert!(reason.ends_with("the service has more than 100000 instances"), "{reason}");
}

#[test]
fn sources_and_registrars_are_named_by_their_agents() {
    let options = ConsulOptions::new("http://127.0.0.1:8500/consul/").unwrap();
    let described = |service| ConsulDiscovery::new(&options, service).unwrap().describe();
    assert_eq!(described("Arith"), "Arith at Consul http://127.0.0.1:8500/consul");
    assert_eq!(described(""), "servers at Consul http://127.0.0.1:8500/consul");
    assert_eq!(ConsulRegistrar::new(&options).unwrap().describe(), "Consul at http://127.0.0.1:8500/consul");
}

#[test]
fn servers_are_dialed_by_any_scheme_but_that_of_unix_sockets() {
    let options = ConsulOptions::new("http://127.0.0.1:8500").unwrap();
    let by = |scheme| ConsulDiscovery::new(&options, "Arith").unwrap().scheme(scheme).map(drop);
    for scheme in [Scheme::Tcp, Scheme::Tls, Scheme::Http, Scheme::Ws] {
        by(scheme).unwrap();
    }
    let error = by(Scheme::Unix).unwrap_err();
    assert!(matches!(error, ConsulOptionsError::Scheme(Scheme::Unix)), "{error}");
}
