//! Endpoints that are ejected or unreachable, and readmitted.

use std::io::{Read as _, Write as _};

use farcall_client::{Channel, Health, OutlierDetection};
use farcall_discovery::{Discovery, Endpoint, Publisher, RoundRobin};
use farcall_protocol::{Code, Execution};
use tokio::time::{Duration, sleep};

use super::support::{MS, Running, over, serve, serve_at, until, who};

async fn fail(channel: &Channel) {
    let _ = channel.call::<String>("T.fail", &()).await;
}

fn ejected(channel: &Channel) -> Vec<String> {
    let out = channel.endpoints().into_iter().filter(|one| matches!(one.health, Health::Ejected { .. }));
    out.map(|one| one.endpoint.address.to_string()).collect()
}

fn unreachable(channel: &Channel) -> usize {
    channel.endpoints().iter().filter(|one| matches!(one.health, Health::Unreachable { .. })).count()
}

/// Starts two servers, the second of which fails `T.fail`, and a channel that ejects one after three failures in a row.
fn one_that_fails() -> (Running, Running, Channel) {
    let (good, bad) = (serve("good"), serve("bad"));
    bad.fails(Code::Internal, Execution::Done);
    let channel = over(&[&good, &bad]).balancer(RoundRobin).outlier_detection(OutlierDetection::failures(3));
    let channel = channel.build().unwrap();
    (good, bad, channel)
}

async fn fail_until_ejected(channel: &Channel) {
    while ejected(channel).is_empty() {
        fail(channel).await;
    }
}

#[tokio::test]
async fn failing_endpoint_is_ejected_until_a_probe_succeeds() {
    let (_good, bad, channel) = one_that_fails();
    let mut calls = 0;
    // One snapshot, since it is readmitted after a while.
    let (out, why) = loop {
        let out = channel.endpoints().into_iter().find_map(|one| match one.health {
            Health::Ejected { error, .. } => Some((one.endpoint.address.clone(), error)),
            _ => None,
        });
        if let Some(out) = out {
            break out;
        }
        fail(&channel).await;
        calls += 1;
        assert!(calls < 1000);
    };
    assert_eq!((out, why.code()), (bad.address.clone(), Code::Internal));
    let before = bad.calls();
    for _ in 0..20 {
        let (answer, calls) = (who(&channel).await, bad.calls());
        // A busy machine may take so long that the probe has already succeeded.
        if ejected(&channel).is_empty() {
            break;
        }
        assert_eq!((answer.as_str(), calls), ("good", before));
    }
    // A probe succeeds after a second, and it gets calls again.
    bad.recovers();
    until("it is readmitted", || ejected(&channel).is_empty()).await;
    until_called(&channel, &bad).await;
}

async fn until_called(channel: &Channel, server: &Running) {
    let before = server.calls();
    for _ in 0..10 {
        who(channel).await;
    }
    assert!(server.calls() > before);
}

#[tokio::test]
async fn readmitted_endpoint_is_ejected_again_after_one_failure() {
    let (_good, bad, channel) = one_that_fails();
    fail_until_ejected(&channel).await;
    let before = bad.calls();
    // The probe succeeds, though the method still fails.
    until("it is readmitted", || ejected(&channel).is_empty()).await;
    fail_until_ejected(&channel).await;
    assert_eq!(bad.calls(), before + 1);
}

#[tokio::test]
async fn success_ends_the_probation_of_a_readmitted_endpoint() {
    let (_good, bad, channel) = one_that_fails();
    fail_until_ejected(&channel).await;
    until("it is readmitted", || ejected(&channel).is_empty()).await;
    until_called(&channel, &bad).await;
    let before = bad.calls();
    for _ in 0..4 {
        fail(&channel).await;
    }
    assert_eq!(bad.calls(), before + 2, "two failures are below the limit again");
    assert_eq!(ejected(&channel), [] as [String; 0]);
}

#[tokio::test]
async fn at_most_half_of_the_endpoints_are_ejected() {
    let servers = [serve("a"), serve("b"), serve("c"), serve("d")];
    for server in &servers {
        server.fails(Code::Internal, Execution::Done);
    }
    let channel = servers.iter().fold(Channel::builder(), |builder, one| builder.to(one.address.clone()));
    let channel =
        channel.balancer(RoundRobin).outlier_detection(OutlierDetection::failures(2)).build().unwrap();
    let mut most = 0;
    for _ in 0..200 {
        fail(&channel).await;
        most = most.max(ejected(&channel).len());
    }
    assert_eq!(most, 2);
}

#[tokio::test]
async fn dead_endpoint_is_excluded_and_comes_back() {
    let alive = serve("alive");
    let mut dead = serve("dead");
    let channel = over(&[&alive, &dead]).balancer(RoundRobin).build().unwrap();
    who(&channel).await;
    who(&channel).await;
    let address = dead.address.to_string();
    dead.kill();
    until("its connection is gone", || {
        channel.endpoints().iter().filter(|one| one.connections == 1).count() == 1
    })
    .await;
    for _ in 0..10 {
        assert_eq!(who(&channel).await, "alive");
    }
    assert_eq!(unreachable(&channel), 1);
    let back = serve_at("back", &address, |builder| builder);
    until("it is readmitted", || unreachable(&channel) == 0).await;
    until_called(&channel, &back).await;
}

#[tokio::test]
async fn all_endpoints_are_used_if_all_are_unreachable() {
    let mut servers = [serve("a"), serve("b")];
    let channel = over(&[&servers[0], &servers[1]]).balancer(RoundRobin).build().unwrap();
    who(&channel).await;
    let addresses = [servers[0].address.to_string(), servers[1].address.to_string()];
    servers.iter_mut().for_each(Running::kill);
    while unreachable(&channel) < 2 {
        channel.call::<String>("T.who", &()).await.unwrap_err();
    }
    let _back = addresses.map(|address| serve_at("back", &address, |builder| builder));
    until("one is back", || unreachable(&channel) < 2).await;
    assert_eq!(who(&channel).await, "back");
}

#[tokio::test]
async fn discovery_that_drops_its_publisher_blocks_nothing() {
    struct Once(Vec<Endpoint>);
    impl Discovery for Once {
        fn describe(&self) -> String {
            "once".to_owned()
        }
        async fn run(self, publisher: Publisher) {
            publisher.publish(self.0);
            drop(publisher);
            std::future::pending::<()>().await;
        }
    }
    let alive = serve("alive");
    let mut dead = serve("dead");
    let source = Once(vec![alive.endpoint(), dead.endpoint()]);
    let channel = Channel::builder().discover(source).balancer(RoundRobin).build().unwrap();
    who(&channel).await;
    dead.kill();
    for _ in 0..10 {
        who(&channel).await;
    }
    until("it is excluded", || unreachable(&channel) == 1).await;
}

#[tokio::test]
async fn outcomes_of_calls_sent_before_readmission_are_ignored() {
    let (good, bad) = (serve("good"), serve("bad"));
    bad.fails(Code::Internal, Execution::Done);
    let channel =
        over(&[&good, &bad]).balancer(RoundRobin).outlier_detection(OutlierDetection::failures(2)).build();
    let channel = channel.unwrap();
    who(&channel).await;
    who(&channel).await;
    let slow: Vec<_> =
        (0..4).map(|_| channel.call::<()>("T.slow", &()).timeout(Duration::from_secs(4)).start()).collect();
    until("they are there", || bad.handle.in_flight() == 2).await;
    fail_until_ejected(&channel).await;
    until("it is readmitted", || ejected(&channel).is_empty()).await;
    for call in slow {
        call.await.unwrap_err();
    }
    for _ in 0..100 {
        let left_out = ejected(&channel);
        assert!(!left_out.contains(&bad.address.to_string()), "{left_out:?}");
        sleep(5 * MS).await;
    }
}

#[tokio::test]
async fn endpoint_that_refuses_the_handshake_is_unreachable() {
    let good = serve("good");
    let picky = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = picky.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in picky.incoming() {
            let mut stream = stream.unwrap();
            let answer = r#"{"magic_number":3405691582,"version":1,"codec_type":"application/msgpack",
                "error":{"code":"unauthenticated","message":"who are you?"}}"#;
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&(answer.len() as u32).to_be_bytes());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let channel = over(&[&good]).to(&*address).balancer(RoundRobin).build().unwrap();
    for _ in 0..10 {
        assert_eq!(who(&channel).await, "good");
    }
    until("it is excluded", || unreachable(&channel) == 1).await;
}
