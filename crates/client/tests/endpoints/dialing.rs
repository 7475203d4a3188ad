//! Slow dials, and the calls that wait for them or go elsewhere.

use farcall_client::{Channel, ConnectionOptions};
use farcall_discovery::RoundRobin;
use farcall_transport::Address;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, Instant};

use super::support::{PATIENCE, Running, over, serve, until, who};

/// Longer than any test: a dial with this limit never ends.
const ENDLESS: Duration = Duration::from_secs(600);

/// A listener that accepts connections and never answers, except for the first `honest` ones, which it
/// relays to `server`.
async fn hole(honest: usize, server: &Running) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let server = server.address.socket_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut swallowed = Vec::new();
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            if number >= honest {
                swallowed.push(stream);
                continue;
            }
            let server = server.clone();
            tokio::spawn(async move {
                let mut to = TcpStream::connect(server).await.unwrap();
                copy_bidirectional(&mut stream, &mut to).await
            });
        }
    });
    address
}

fn patient() -> ConnectionOptions {
    ConnectionOptions::default().connect_timeout(ENDLESS)
}

#[tokio::test]
async fn call_goes_elsewhere_while_a_dial_is_slow() {
    let server = serve("a");
    let hole = hole(0, &server).await;
    let channel = over(&[&server]).to(hole.clone()).balancer(RoundRobin).options(patient()).build().unwrap();
    let begin = Instant::now();
    for _ in 0..10 {
        let answer: String = channel.call("T.who", &()).timeout(PATIENCE).await.unwrap();
        assert_eq!(answer, "a");
    }
    assert!(begin.elapsed() < PATIENCE);
    let away = |one: &farcall_client::EndpointStatus| {
        one.endpoint.address == hole && !matches!(one.health, farcall_client::Health::Healthy)
    };
    until("it is excluded", || channel.endpoints().iter().any(away)).await;
}

#[tokio::test]
async fn call_waits_for_a_dial_if_no_other_endpoint_is_ready() {
    let server = serve("a");
    let (one, other) = (hole(1, &server).await, hole(0, &server).await);
    let channel = Channel::builder().to(one).to(other).options(patient()).build().unwrap();
    for _ in 0..10 {
        assert_eq!(channel.call::<String>("T.who", &()).timeout(PATIENCE).await.unwrap(), "a");
    }
}

#[tokio::test]
async fn open_connection_is_used_while_another_is_dialed() {
    let server = serve("a");
    let hole = hole(1, &server).await;
    let channel = Channel::builder().to(hole).connections(3).options(patient()).build().unwrap();
    for _ in 0..20 {
        assert_eq!(channel.call::<String>("T.who", &()).timeout(PATIENCE).await.unwrap(), "a");
    }
}

#[tokio::test]
async fn connect_succeeds_if_any_endpoint_is_reachable() {
    let server = serve("a");
    let mut dead = [serve("b"), serve("c"), serve("d")];
    dead.iter_mut().for_each(Running::kill);
    for _ in 0..5 {
        let channel = over(&[&server, &dead[0], &dead[1], &dead[2]]).build().unwrap();
        channel.connect().await.unwrap();
        assert!(channel.is_available());
        assert_eq!(who(&channel).await, "a");
    }
}
