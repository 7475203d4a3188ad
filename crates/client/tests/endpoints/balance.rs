//! The endpoint of a call, as chosen by balancers.

use std::collections::HashMap;

use farcall_client::Channel;
use farcall_discovery::{ConsistentHash, ReportedLoad, RoundRobin, WeightedRoundRobin};
use farcall_server::LoadReporting;

use tokio::time::timeout;

use super::support::{Line, MS, PATIENCE, Running, User, list, over, script, serve_at, until, who};

fn serve(name: &'static str) -> Running {
    serve_at(name, "tcp@127.0.0.1:0", |builder| {
        builder.method("T.hello", move |_: User| async move { name.to_owned() })
    })
}

#[tokio::test]
async fn round_robin_spreads_calls_evenly() {
    let servers = [serve("a"), serve("b"), serve("c")];
    let channel = over(&[&servers[0], &servers[1], &servers[2]]).balancer(RoundRobin);
    let channel = channel.build().unwrap();
    for _ in 0..30 {
        who(&channel).await;
    }
    assert_eq!(servers.each_ref().map(Running::calls), [10; 3]);
}

#[tokio::test]
async fn calls_follow_the_latest_weights() {
    let (a, b) = (serve("a"), serve("b"));
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).balancer(WeightedRoundRobin).build().unwrap();
    let weights = |x, y| Line::List(vec![a.endpoint().with_weight(x), b.endpoint().with_weight(y)]);
    tell.send(weights(30, 10)).ok().unwrap();
    for _ in 0..40 {
        who(&channel).await;
    }
    assert_eq!((a.calls(), b.calls()), (30, 10));
    tell.send(weights(10, 30)).ok().unwrap();
    until("it is told", || {
        channel.endpoints().iter().any(|one| one.endpoint.weight == 30 && one.endpoint.address == b.address)
    })
    .await;
    for _ in 0..40 {
        who(&channel).await;
    }
    assert_eq!((a.calls(), b.calls()), (40, 40));
}

#[tokio::test]
async fn key_maps_to_the_same_endpoint_from_every_source() {
    let servers = [serve("a"), serve("b"), serve("c")];
    let all = [&servers[0], &servers[1], &servers[2]];
    let by_key = over(&all).balancer(ConsistentHash::by_key()).build().unwrap();
    let by_metadata = over(&all).balancer(ConsistentHash::by_metadata("user")).build().unwrap();
    let by_argument = over(&all).balancer(ConsistentHash::by_argument("user")).build().unwrap();
    let mut homes = HashMap::<String, usize>::new();
    for user in ["ann", "ben", "cleo", "dan", "eve", "finn", "gus", "hal", "ida", "jo", "kim", "lea"] {
        let hello = serde_json::json!({ "user": user });
        let home: String = by_key.call("T.hello", &hello).key(user).await.unwrap();
        for _ in 0..3 {
            let again: String = by_key.call("T.hello", &hello).key(user).await.unwrap();
            assert_eq!(again, home);
        }
        let other: String = by_metadata.call("T.hello", &hello).metadata("user", user).await.unwrap();
        assert_eq!(other, home, "{user}");
        let other: String = by_argument.call("T.hello", &hello).await.unwrap();
        assert_eq!(other, home, "{user}");
        *homes.entry(home).or_default() += 1;
    }
    assert!(homes.len() > 1, "{homes:?}");
}

#[tokio::test]
async fn key_moves_if_its_endpoint_is_gone() {
    let mut servers = [serve("a"), serve("b"), serve("c")];
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).balancer(ConsistentHash::by_key()).build().unwrap();
    tell.send(list(&[&servers[0], &servers[1], &servers[2]])).ok().unwrap();
    let home = |channel: Channel| async move {
        channel.call::<String>("T.who", &()).key("ann").idempotent().await.unwrap()
    };
    let first = home(channel.clone()).await;
    servers.iter_mut().find(|server| server.name == first).unwrap().kill();
    let second = home(channel.clone()).await;
    assert_ne!(second, first);
    assert_eq!(home(channel.clone()).await, second);
}

#[tokio::test]
async fn calls_follow_the_load_that_servers_report() {
    let serve = |name, utilization: f64| {
        let reporting = LoadReporting::default().interval(10 * MS).utilization(move || utilization);
        serve_at(name, "tcp@127.0.0.1:0", |builder| builder.report_load(reporting))
    };
    // Of the same calls the first uses all of its capacity, and the other a tenth.
    let (busy, idle) = (serve("busy", 1.0), serve("idle", 0.1));
    let channel = over(&[&busy, &idle]).balancer(ReportedLoad::default().blackout(500 * MS)).build().unwrap();
    assert!(channel.endpoints().iter().all(|one| one.reported_load.is_none()));
    let follows = async {
        loop {
            let before = [busy.calls(), idle.calls()];
            for _ in 0..200 {
                who(&channel).await;
            }
            if idle.calls() - before[1] > 2 * (busy.calls() - before[0]) {
                return;
            }
        }
    };
    timeout(PATIENCE, follows).await.expect("the idle one gets more");
    let loads: Vec<_> = channel.endpoints().iter().map(|one| one.reported_load.unwrap()).collect();
    assert!(loads.iter().all(|load| load.calls_per_second > 0.0), "{loads:?}");
    let mut utilization: Vec<_> = loads.iter().map(|load| load.utilization.unwrap()).collect();
    utilization.sort_by(f64::total_cmp);
    assert_eq!(utilization, [0.1, 1.0]);
    let overview = serde_json::to_value(channel.overview()).unwrap();
    for endpoint in overview["endpoints"].as_array().unwrap() {
        let load = &endpoint["reported_load"];
        let is_known = |field: &str| load[field].is_number();
        assert!(
            ["utilization", "calls_per_second", "in_flight", "age_ms"].into_iter().all(is_known),
            "{load}"
        );
    }
    let reported = channel.metrics().reported_loads;
    let mut addresses = [&busy, &idle].map(|server| server.address.to_string());
    addresses.sort_unstable();
    assert!(reported.iter().map(|(address, _)| address).eq(&addresses), "{reported:?}");
}
