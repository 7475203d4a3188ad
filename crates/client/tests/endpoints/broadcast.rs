//! Broadcasts: one call of every endpoint.

use farcall_client::{CallError, Channel};
use farcall_discovery::AdvertisedState;
use farcall_protocol::{Code, Execution};

use super::support::{Line, MS, Running, over, script, serve, until};

fn three() -> [Running; 3] {
    [serve("a"), serve("b"), serve("c")]
}

#[tokio::test]
async fn broadcast_calls_every_endpoint_and_all_must_succeed() {
    let servers = three();
    let channel = over(&[&servers[0], &servers[1], &servers[2]]).build().unwrap();
    let all = channel.call::<String>("T.who", &()).broadcast().await.unwrap();
    assert_eq!(all.len(), 3);
    for said in all {
        let server = servers.iter().find(|server| server.address == said.endpoint).unwrap();
        assert_eq!(said.value, server.name);
    }
    assert_eq!(servers.each_ref().map(Running::calls), [1; 3]);
}

#[tokio::test]
async fn first_error_cancels_the_rest_and_names_its_endpoint() {
    let servers = three();
    let channel = over(&[&servers[0], &servers[1], &servers[2]]).build().unwrap();
    let mut broadcast = Box::pin(channel.call::<String>("T.slow", &()).broadcast().into_future());
    tokio::select! {
        _ = &mut broadcast => panic!("they are slow"),
        () = until("all run", || servers.iter().all(|server| server.handle.in_flight() == 1)) => {}
    }
    let mut servers = servers;
    let killed = servers[1].address.clone();
    servers[1].kill();
    let error = broadcast.await.unwrap_err();
    assert_eq!(error.failures.len(), 1);
    assert_eq!(error.first().endpoint.as_ref(), Some(&killed));
    assert_eq!(error.first().error.execution(), Execution::Maybe);
    assert!(error.to_string().contains(&killed.to_string()), "{error}");
    for server in [&servers[0], &servers[2]] {
        until("the others are stopped", || server.handle.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn any_returns_the_first_success() {
    let servers = three();
    for server in &servers[..2] {
        server.fails(Code::Internal, Execution::Done);
    }
    let channel = over(&[&servers[0], &servers[1], &servers[2]]).build().unwrap();
    let said = channel.call::<String>("T.fail", &()).broadcast().any().await.unwrap();
    assert_eq!((said.value.as_str(), said.endpoint), ("c", servers[2].address.clone()));
    servers[2].fails(Code::Internal, Execution::Done);
    let error = channel.call::<String>("T.fail", &()).broadcast().any().await.unwrap_err();
    assert_eq!(error.failures.len(), 3);
    let each: Vec<_> = error.failures.iter().map(|failure| failure.error.to_string()).collect();
    assert_eq!(error.to_string(), each.join("; "));
}

#[tokio::test]
async fn each_collects_every_outcome() {
    let mut servers = three();
    servers[0].fails(Code::Internal, Execution::Done);
    servers[1].kill();
    let channel = over(&[&servers[0], &servers[1], &servers[2]]).build().unwrap();
    let each = channel.call::<String>("T.fail", &()).broadcast().each().await.unwrap();
    let said = |server: &Running| {
        let said = each.iter().find(|said| said.endpoint == server.address).unwrap();
        said.value.clone().map_err(|error: CallError| error.code())
    };
    assert_eq!(each.len(), 3);
    assert_eq!(said(&servers[0]), Err(Code::Internal));
    assert_eq!(said(&servers[1]), Err(Code::Unavailable));
    assert_eq!(said(&servers[2]), Ok("c".to_owned()));
}

#[tokio::test]
async fn broadcast_skips_drained_endpoints() {
    let servers = three();
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).build().unwrap();
    let drained = servers[0].endpoint().with_state(AdvertisedState::Draining);
    tell.send(Line::List(vec![drained, servers[1].endpoint(), servers[2].endpoint()])).ok().unwrap();
    let all = channel.call::<String>("T.who", &()).broadcast().await.unwrap();
    assert_eq!(all.len(), 2);
    tell.send(Line::List(Vec::new())).ok().unwrap();
    until("no endpoint is left", || channel.endpoints().is_empty()).await;
    let error = channel.call::<String>("T.who", &()).broadcast().each().await.unwrap_err();
    assert!(error.to_string().starts_with("no endpoint: T in a script: the list is empty"), "{error}");
}

#[tokio::test]
async fn timeout_applies_to_every_call_of_a_broadcast() {
    let servers = three();
    let channel = over(&[&servers[0], &servers[1], &servers[2]]).build().unwrap();
    let slow = channel.call::<String>("T.slow", &()).timeout(100 * MS).broadcast();
    for said in slow.each().await.unwrap() {
        assert_eq!(said.value.unwrap_err().code(), Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn broadcast_over_one_address_makes_one_call() {
    let server = serve("a");
    let channel = Channel::to(server.address.clone()).unwrap();
    let all = channel.call::<String>("T.who", &()).broadcast().await.unwrap();
    assert_eq!((all.len(), all[0].value.as_str()), (1, "a"));
}

#[tokio::test]
async fn broadcast_does_not_advance_the_balancer() {
    let servers = [serve("a"), serve("b")];
    let channel = over(&[&servers[0], &servers[1]]).balancer(farcall_discovery::RoundRobin).build().unwrap();
    let first = super::support::who(&channel).await;
    channel.call::<String>("T.who", &()).broadcast().await.unwrap();
    assert_ne!(super::support::who(&channel).await, first);
}

#[tokio::test]
async fn broadcast_waits_for_ready() {
    let server = serve("a");
    let (tell, script) = script();
    let channel = Channel::builder().discover(script).wait_for_ready(true).build().unwrap();
    tell.send(Line::List(Vec::new())).ok().unwrap();
    let broadcast = channel.call::<String>("T.who", &()).timeout(60_000 * MS).broadcast().into_future();
    let broadcast = tokio::spawn(broadcast);
    until("the empty list has arrived", || channel.endpoints_age().is_some()).await;
    tell.send(Line::List(vec![server.endpoint()])).ok().unwrap();
    assert_eq!(broadcast.await.unwrap().unwrap()[0].value, "a");
}

#[tokio::test]
async fn dropped_broadcast_stops_its_handlers() {
    let servers = three();
    let channel = over(&[&servers[0], &servers[1], &servers[2]]).build().unwrap();
    let broadcast = tokio::spawn(channel.call::<String>("T.slow", &()).broadcast().into_future());
    until("all run", || servers.iter().all(|server| server.handle.in_flight() == 1)).await;
    broadcast.abort();
    until("all are stopped", || servers.iter().all(|server| server.handle.in_flight() == 0)).await;
    until("none is counted", || channel.endpoints().iter().all(|one| one.in_flight == 0)).await;
}
