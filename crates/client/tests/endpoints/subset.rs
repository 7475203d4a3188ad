//! Channels whose balancer uses a subset of the endpoints: who is connected, and what replaces a member.

use std::collections::BTreeSet;

use farcall_client::{Channel, EndpointState};
use farcall_discovery::{Endpoint, RoundRobin, Subset};
use farcall_protocol::{Code, Execution};
use farcall_server::ServerBuilder;
use farcall_transport::Address;

use super::support::{Line, Running, script, serve, serve_at, until, who};

const SERVERS: usize = 40;
const SIZE: usize = 5;

/// A server that listens on many addresses stands for many servers.
fn serve_many() -> (Running, Vec<Endpoint>) {
    let listen =
        |builder| (1..SERVERS).fold(builder, |builder: ServerBuilder, _| builder.listen("127.0.0.1:0"));
    let running = serve_at("a", "tcp@127.0.0.1:0", listen);
    let endpoints = running.addresses.iter().cloned().map(Endpoint::new).collect();
    (running, endpoints)
}

/// The addresses that the channel is connected to.
fn connected(channel: &Channel) -> BTreeSet<Address> {
    let endpoints = channel.endpoints().into_iter().filter(|one| one.connections > 0);
    endpoints.map(|one| one.endpoint.address.clone()).collect()
}

fn states(channel: &Channel, state: EndpointState) -> usize {
    let metrics = channel.metrics();
    metrics.endpoints.iter().find(|(of, _)| *of == state).map_or(0, |(_, count)| *count)
}

async fn call(channel: &Channel, times: usize) {
    for _ in 0..times {
        who(channel).await;
    }
}

#[tokio::test]
async fn clients_connect_to_their_subsets_only() {
    const CLIENTS: usize = 30;
    let (server, endpoints) = serve_many();
    let mut channels = Vec::new();
    let mut used = BTreeSet::new();
    for number in 0..CLIENTS {
        let subset = Subset::of(SIZE).client(format!("client-{number}")).around(RoundRobin);
        let channel =
            endpoints.iter().fold(Channel::builder(), |builder, one| builder.to(one.address.clone()));
        let channel = channel.balancer(subset).build().unwrap();
        call(&channel, 3 * SIZE).await;
        let members = connected(&channel);
        assert_eq!(members.len(), SIZE);
        assert_eq!(states(&channel, EndpointState::Outside), SERVERS - SIZE);
        used.extend(members);
        channels.push(channel);
    }
    // As the server counts them: 150 instead of 1,200.
    assert_eq!(server.handle.connections(), CLIENTS * SIZE);
    // Each address is in no subset with a chance of (35/40)^30, 2%.
    assert!(used.len() > SERVERS * 3 / 4, "{}", used.len());
}

#[tokio::test]
async fn fleet_that_is_hardly_larger_than_a_subset_has_spares_without_connections() {
    let (_server, mut endpoints) = serve_many();
    endpoints.truncate(SIZE + 1);
    let channel = endpoints.iter().fold(Channel::builder(), |builder, one| builder.to(one.address.clone()));
    let subset = Subset::of(SIZE).client("c").around(RoundRobin);
    let channel = channel.balancer(subset).build().unwrap();
    call(&channel, 3 * SIZE).await;
    assert_eq!((connected(&channel).len(), states(&channel, EndpointState::Outside)), (SIZE, 1));
    // A broadcast reaches the spare, too, whose connection is closed again.
    let all = channel.call::<String>("T.who", &()).broadcast().await.unwrap();
    assert_eq!(all.len(), SIZE + 1);
    until("the spare is disconnected", || connected(&channel).len() == SIZE).await;
}

#[tokio::test]
async fn member_that_leaves_or_drains_is_replaced_and_disconnected() {
    let (_server, endpoints) = serve_many();
    let (tell, script) = script();
    let subset = Subset::of(SIZE).client("c").around(RoundRobin);
    let channel = Channel::builder().discover(script).balancer(subset).build().unwrap();
    tell.send(Line::List(endpoints.clone())).ok().unwrap();
    call(&channel, 3 * SIZE).await;
    let before = connected(&channel);
    let member = before.first().unwrap().clone();

    let without = endpoints.iter().filter(|endpoint| endpoint.address != member).cloned().collect();
    tell.send(Line::List(without)).ok().unwrap();
    until("it has left", || channel.endpoints().len() == SERVERS - 1).await;
    call(&channel, 3 * SIZE).await;
    let after = connected(&channel);
    assert_eq!((after.len(), after.difference(&before).count()), (SIZE, 1));
    assert!(!after.contains(&member));

    // It returns, and its replacement is disconnected.
    tell.send(Line::List(endpoints.clone())).ok().unwrap();
    until("it is back", || channel.endpoints().len() == SERVERS).await;
    call(&channel, 3 * SIZE).await;
    until("the replacement is disconnected", || connected(&channel) == before).await;

    let drained = endpoints.into_iter().map(|endpoint| match endpoint.address == member {
        true => endpoint.with_weight(0),
        false => endpoint,
    });
    tell.send(Line::List(drained.collect())).ok().unwrap();
    until("it is drained", || states(&channel, EndpointState::Draining) == 1).await;
    call(&channel, 3 * SIZE).await;
    until("only members are connected", || connected(&channel) == after).await;
}

#[tokio::test]
async fn failing_members_are_replaced_and_return() {
    let servers: Vec<Running> = (0..8).map(|_| serve("a")).collect();
    let channel = servers.iter().fold(Channel::builder(), |builder, one| builder.to(one.address.clone()));
    let subset = Subset::of(2).client("c").around(RoundRobin);
    let channel = channel.balancer(subset).build().unwrap();
    call(&channel, 6).await;
    let before = connected(&channel);
    let mut servers: Vec<Running> = servers.into_iter().collect();
    let member = servers.iter_mut().find(|server| before.contains(&server.address)).unwrap();
    let address = member.address.clone();
    member.kill();
    until("the other endpoints are called", || !connected(&channel).contains(&address)).await;
    // No call fails, and there are two usable members again.
    call(&channel, 20).await;
    let now = connected(&channel);
    assert_eq!((now.len(), now.difference(&before).count()), (2, 1));
    assert_eq!(states(&channel, EndpointState::Outside), 5, "the killed one is probed, and two are called");

    let _again = serve_at("a", &address.to_string(), |builder| builder);
    until("it is a member again", || {
        states(&channel, EndpointState::Outside) == 6 && connected(&channel).is_subset(&before)
    })
    .await;
    call(&channel, 6).await;
    assert_eq!(connected(&channel), before);
}

#[tokio::test]
async fn calls_go_outside_of_the_subset_if_all_members_are_down() {
    let mut servers: Vec<Running> =
        (0..8).map(|_| serve_at("a", "tcp@127.0.0.1:0", |builder| builder)).collect();
    let channel = servers.iter().fold(Channel::builder(), |builder, one| builder.to(one.address.clone()));
    let channel = channel.balancer(Subset::of(2).client("c").around(RoundRobin)).build().unwrap();
    call(&channel, 6).await;
    let members = connected(&channel);
    servers.iter_mut().filter(|server| members.contains(&server.address)).for_each(Running::kill);
    call(&channel, 20).await;
    let now = connected(&channel);
    assert!(now.len() == 2 && now.is_disjoint(&members), "{now:?}");
}

#[tokio::test]
async fn endpoint_that_answers_errors_is_ejected_from_the_subset() {
    let servers: Vec<Running> = (0..6).map(|_| serve_at("a", "tcp@127.0.0.1:0", |builder| builder)).collect();
    let channel = servers.iter().fold(Channel::builder(), |builder, one| builder.to(one.address.clone()));
    let channel = channel.balancer(Subset::of(2).client("c").around(RoundRobin)).build().unwrap();
    call(&channel, 4).await;
    let members = connected(&channel);
    let bad = servers.iter().find(|server| members.contains(&server.address)).unwrap();
    bad.fails(Code::Internal, Execution::Done);
    let mut tries = 0;
    while states(&channel, EndpointState::Ejected) == 0 {
        let _ = channel.call::<String>("T.fail", &()).await;
        tries += 1;
        assert!(tries < 1000, "it is not ejected");
    }
    let before = bad.calls();
    for number in 1..=10 {
        call(&channel, 1).await;
        let (calls, healthy) = (bad.calls(), states(&channel, EndpointState::Healthy));
        // A busy machine may take so long that a probe has readmitted it.
        if states(&channel, EndpointState::Ejected) == 0 {
            break;
        }
        assert_eq!(calls, before);
        assert!(healthy == 2 || number < 10, "{healthy} instead of 2");
    }
}

#[tokio::test]
async fn broadcast_reaches_all_and_leaves_no_connection_outside() {
    let (server, endpoints) = serve_many();
    let channel = endpoints.iter().fold(Channel::builder(), |builder, one| builder.to(one.address.clone()));
    let channel = channel.balancer(Subset::of(SIZE).around(RoundRobin)).build().unwrap();
    call(&channel, 3 * SIZE).await;
    let members = connected(&channel);
    let replies = channel.call::<String>("T.who", &()).broadcast().await.unwrap();
    assert_eq!(replies.len(), SERVERS);
    // Within 5 s.
    until("the others are disconnected", || server.handle.connections() == SIZE).await;
    assert_eq!(connected(&channel), members);
}
