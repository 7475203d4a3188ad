//! Lists of endpoints: added and removed endpoints, discovery failures, and errors without an endpoint.

use farcall_client::{BuildError, Channel, Phase};
use farcall_discovery::{AdvertisedState, Balancer, Candidates, Discovery, Picker, Publisher, RoundRobin};
use farcall_protocol::{Code, Execution};
use farcall_test_support::wait::settle;
use tokio::time::{Duration, sleep, timeout};

use super::support::{Line, MS, PATIENCE, Running, list, over, script, serve, until, who};

async fn no_endpoint(channel: &Channel) -> String {
    let error = channel.call::<()>("T.who", &()).await.unwrap_err();
    let error = error.rpc().unwrap();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
    assert_eq!(error.phase(), Phase::Pick);
    error.to_string()
}

#[tokio::test]
async fn first_call_waits_for_the_first_list() {
    let server = serve("a");
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).build().unwrap();
    let call = channel.call::<String>("T.who", &()).start();
    settle().await;
    tell.send(list(&[&server])).ok().unwrap();
    assert_eq!(call.await.unwrap(), "a");
    assert!(channel.endpoints_age().unwrap() < PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn silent_discovery_fails_calls_after_the_connect_timeout() {
    let (_tell, script) = script();
    let channel = Channel::builder().discover(script).build().unwrap();
    assert_eq!(
        no_endpoint(&channel).await,
        "no endpoint: T in a script: nothing was found within 10 s (unavailable, not_sent)"
    );
}

#[tokio::test(start_paused = true)]
async fn reason_for_no_endpoint_is_reported() {
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).build().unwrap();
    tell.send(Line::Failed("connection refused")).ok().unwrap();
    let text = no_endpoint(&channel).await;
    let known =
        "no endpoint: T in a script: none was ever found; looking has failed for 0 s: connection refused";
    assert_eq!(text, format!("{known} (unavailable, not_sent)"));

    tell.send(Line::List(Vec::new())).ok().unwrap();
    sleep(MS).await;
    let text = "no endpoint: T in a script: the list is empty (unavailable, not_sent)";
    assert_eq!(no_endpoint(&channel).await, text);

    let drained = ["tcp@127.0.0.1:1", "tcp@127.0.0.1:2"].map(|address| {
        let endpoint = farcall_discovery::Endpoint::new(farcall_transport::Address::parse(address).unwrap());
        endpoint.with_state(AdvertisedState::Draining)
    });
    tell.send(Line::List(drained.to_vec())).ok().unwrap();
    sleep(MS).await;
    let text = "no endpoint: T in a script: all 2 are drained (unavailable, not_sent)";
    assert_eq!(no_endpoint(&channel).await, text);

    tell.send(Line::Failed("no answer")).ok().unwrap();
    sleep(Duration::from_secs(70)).await;
    let text = no_endpoint(&channel).await;
    assert!(text.contains("all 2 are drained; looking has failed for 70 s: no answer"), "{text}");
}

#[tokio::test]
async fn failing_discovery_keeps_the_last_list() {
    let server = serve("a");
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).build().unwrap();
    tell.send(list(&[&server])).ok().unwrap();
    assert_eq!(who(&channel).await, "a");
    tell.send(Line::Failed("no answer")).ok().unwrap();
    tell.send(Line::Panic).ok().unwrap();
    until("the discovery has panicked", || tell.is_closed()).await;
    assert_eq!(who(&channel).await, "a");
}

#[tokio::test(start_paused = true)]
async fn confirming_a_list_resets_its_age() {
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).build().unwrap();
    assert_eq!(channel.endpoints_age(), None);
    tell.send(Line::List(Vec::new())).ok().unwrap();
    no_endpoint(&channel).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(channel.endpoints_age().unwrap().as_secs(), 60);
    tell.send(Line::Confirmed).ok().unwrap();
    sleep(MS).await;
    assert_eq!(channel.endpoints_age().unwrap().as_secs(), 0);
}

#[tokio::test]
async fn panicking_discovery_is_reported() {
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).build().unwrap();
    tell.send(Line::Panic).ok().unwrap();
    let text = no_endpoint(&channel).await;
    assert!(
        text.contains("none was ever found; looking has failed for 0 s: its discovery panicked"),
        "{text}"
    );
}

/// A source, and a balancer, that panic as soon as they can.
#[derive(Debug)]
struct Panics;

impl Discovery for Panics {
    fn describe(&self) -> String {
        "a source that panics".to_owned()
    }

    #[allow(clippy::manual_async_fn, reason = "it panics before there is a future")]
    fn run(self, _publisher: Publisher) -> impl Future<Output = ()> + Send + 'static {
        let panics: fn() -> std::future::Ready<()> = || panic!("as the test says");
        panics()
    }
}

impl Balancer for Panics {
    fn picker(&self, _candidates: &Candidates) -> Box<dyn Picker> {
        panic!("as the test says")
    }
}

#[tokio::test]
async fn discovery_that_panics_before_running_is_reported() {
    let channel = Channel::builder().discover(Panics).build().unwrap();
    let text = no_endpoint(&channel).await;
    assert!(text.contains("its discovery panicked"), "{text}");
}

#[tokio::test]
async fn panicking_balancer_is_reported() {
    let server = serve("a");
    let channel = over(&[&server, &serve("b")]).balancer(Panics).build().unwrap();
    let text = no_endpoint(&channel).await;
    assert!(text.contains("the task that looks for endpoints has ended"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn discovery_that_ends_without_a_list_is_reported() {
    struct Nothing;
    impl Discovery for Nothing {
        fn describe(&self) -> String {
            "nothing".to_owned()
        }
        async fn run(self, _publisher: Publisher) {}
    }
    let channel = Channel::builder().discover(Nothing).build().unwrap();
    let text = no_endpoint(&channel).await;
    assert!(text.contains("its discovery ended without a list"), "{text}");
}

#[tokio::test]
async fn calls_follow_added_and_removed_endpoints() {
    let (a, b) = (serve("a"), serve("b"));
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).balancer(RoundRobin).build().unwrap();
    tell.send(list(&[&a])).ok().unwrap();
    assert_eq!(who(&channel).await, "a");
    tell.send(list(&[&a, &b])).ok().unwrap();
    until("b is known", || channel.endpoints().len() == 2).await;
    let both = [who(&channel).await, who(&channel).await];
    assert!(both.contains(&"a".to_owned()) && both.contains(&"b".to_owned()), "{both:?}");

    // A call in flight at a removed endpoint is finished there.
    let slow = channel.call::<String>("T.slow", &()).timeout(PATIENCE).start();
    until("it runs", || a.calls() + b.calls() == 4).await;
    let (stays, leaves) = if b.handle.in_flight() == 0 { (&b, &a) } else { (&a, &b) };
    tell.send(list(&[stays])).ok().unwrap();
    until("one has left", || channel.endpoints().len() == 1).await;
    for _ in 0..10 {
        assert_eq!(who(&channel).await, stays.name);
    }
    assert_eq!(leaves.handle.connections(), 1, "it has a call under way");
    drop(slow);
    until("its connection is closed", || leaves.handle.connections() == 0).await;
}

#[tokio::test]
async fn drained_endpoint_gets_no_calls_and_keeps_its_connection() {
    let (a, b) = (serve("a"), serve("b"));
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).balancer(RoundRobin).build().unwrap();
    tell.send(list(&[&a, &b])).ok().unwrap();
    who(&channel).await;
    who(&channel).await;
    let drain =
        |weight, state| Line::List(vec![a.endpoint().with_weight(weight).with_state(state), b.endpoint()]);
    for (weight, state) in [(100, AdvertisedState::Draining), (0, AdvertisedState::Up)] {
        tell.send(drain(weight, state)).ok().unwrap();
        until("it is drained", || channel.endpoints().iter().any(|one| one.endpoint.is_drained())).await;
        for _ in 0..10 {
            assert_eq!(who(&channel).await, "b");
        }
        tell.send(list(&[&a, &b])).ok().unwrap();
        until("it is back", || !channel.endpoints().iter().any(|one| one.endpoint.is_drained())).await;
        assert_ne!(who(&channel).await, who(&channel).await);
    }
    assert_eq!(a.handle.connections(), 1);
}

#[tokio::test]
async fn wait_for_ready_call_is_sent_when_an_endpoint_appears() {
    let server = serve("a");
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).wait_for_ready(true).build().unwrap();
    tell.send(Line::List(Vec::new())).ok().unwrap();
    let call = channel.call::<String>("T.who", &()).start();
    let hasty = channel.call::<String>("T.who", &()).timeout(20 * MS).await.unwrap_err();
    assert_eq!((hasty.code(), hasty.execution()), (Code::DeadlineExceeded, Execution::NotSent));
    tell.send(list(&[&server])).ok().unwrap();
    assert_eq!(timeout(PATIENCE, call).await.unwrap().unwrap(), "a");
}

#[tokio::test]
async fn wait_for_ready_call_outlasts_a_server_that_is_not_up_yet() {
    let mut server = serve("early");
    let address = server.address.clone();
    server.kill();
    until("the port is free", || std::net::TcpStream::connect(address.socket_addr().unwrap()).is_err()).await;
    let (tell, script) = script();
    let one = Channel::to(address.clone()).unwrap();
    let many = Channel::builder().discover(script).build().unwrap();
    tell.send(list(&[&server])).ok().unwrap();
    let calls = [one, many].map(|channel| {
        let call = channel.call::<String>("T.who", &()).wait_for_ready(true).timeout(PATIENCE).start();
        (channel, call)
    });
    until("both have tried to connect", || {
        calls.iter().all(|(channel, _)| channel.overview().endpoints.iter().any(|one| one.failures > 0))
    })
    .await;
    let _server = super::support::serve_at("late", &address.to_string(), |builder| builder);
    for (_channel, call) in calls {
        assert_eq!(call.await.unwrap(), "late");
    }
}

#[tokio::test]
async fn calls_to_one_endpoint_share_a_dial() {
    let server = serve("a");
    let channel = over(&[&server, &server]).build().unwrap();
    let calls: Vec<_> = (0..100).map(|_| channel.call::<String>("T.who", &()).start()).collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), "a");
    }
    assert_eq!(server.handle.connections(), 1);
}

#[tokio::test]
async fn endpoint_can_have_several_connections() {
    let (a, b) = (serve("a"), serve("b"));
    let calls = |channel: Channel| async move {
        for _ in 0..30 {
            who(&channel).await;
        }
        channel
    };
    let one = calls(Channel::builder().to(a.address.clone()).connections(3).build().unwrap()).await;
    until("the server has accepted three", || a.handle.connections() == 3).await;
    drop(one);
    let both = over(&[&a, &b]).balancer(RoundRobin).connections(2);
    let both = calls(both.build().unwrap()).await;
    until("the first channel's are closed", || a.handle.connections() == 2).await;
    until("the other server has accepted two", || b.handle.connections() == 2).await;
    until("all are connected", || both.endpoints().iter().all(|one| one.connections == 2)).await;
}

#[tokio::test]
async fn dropped_channel_releases_discovery_and_connections() {
    let servers: Vec<Running> = vec![serve("a"), serve("b")];
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).balancer(RoundRobin).build().unwrap();
    tell.send(list(&[&servers[0], &servers[1]])).ok().unwrap();
    who(&channel).await;
    who(&channel).await;
    drop(channel);
    until("the discovery is dropped", || tell.is_closed()).await;
    until("nothing is connected", || servers.iter().all(|server| server.handle.connections() == 0)).await;
}

#[test]
fn addresses_and_discovery_exclude_each_other() {
    let (_tell, script) = script();
    let error = Channel::builder().to("tcp@127.0.0.1:1").discover(script).build().unwrap_err();
    assert_eq!(error, BuildError::AddressesAndDiscovery);
}
