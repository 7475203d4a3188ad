//! ARCHITECTURE.md, "Bounds": what one connection or one peer can occupy of a server, and what is
//! left to others.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use std::net::SocketAddr;

use bytes::Bytes;
use farcall_protocol::{ClientOffer, Code, Codec, Compression, Execution, HeaderRef, Kind, Metadata};
use farcall_server::{Limits, Overview};
use farcall_test_support::wait::{hold_clock, settle};
use farcall_transport::PeerAddress;
use serde_json::json;
use support::{Raw, Running, frame, millis, none, open_from, secs, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

const MIB: usize = 1024 * 1024;
const REFUSED: Execution = Execution::Refused;

/// Connects from an address.
async fn connect_from(server: &Running, host: u8) -> Raw {
    let peer = SocketAddr::from(([10, 0, 0, host], 7));
    Raw::shake(open_from(&server.handle, PeerAddress::Tcp(peer)), &ClientOffer::default()).await.unwrap()
}

/// Sends a message of `size` bytes but for the last byte.
async fn send_but_one(client: &mut Raw, size: usize) {
    let header = HeaderRef { service_method: "T.count", ..HeaderRef::new(Kind::Request, client.next_seq()) };
    let bytes = client.encode(&header, Bytes::from(vec![0xc0; size]));
    client.write(&bytes[..bytes.len() - 1]).await;
}

/// A body of `size` bytes for methods that take no arguments.
fn padding(size: usize) -> serde_json::Value {
    json!({"ignored": "x".repeat(size)})
}

fn refused(overview: &Overview, name: &str) -> u64 {
    overview.limits.iter().find(|limit| limit.name == name).unwrap().refused.unwrap()
}

fn used(overview: &Overview, name: &str) -> u64 {
    overview.limits.iter().find(|limit| limit.name == name).unwrap().used.unwrap()
}

#[tokio::test(start_paused = true)]
async fn claimed_bytes_are_not_held() {
    let server = serve(Limits::default().buffered_bytes(8 * MIB));
    let mut claiming = Vec::new();
    for claim in [4 * MIB as u32, 60_000].repeat(100) {
        let mut client = connect_from(&server, 1).await;
        client.write(&[&frame(&[0x92, 1, 9])[..], &claim.to_be_bytes(), &[1]].concat()).await;
        claiming.push(client);
    }
    sleep(millis(1)).await;
    let held = server.handle.buffered_bytes();
    assert!(held <= claiming.len() * 4096, "{held}");
    // Not even large calls are refused.
    let mut other = connect_from(&server, 1).await;
    hold_clock(other.call("T.count", padding(2 * MIB))).await.value();
}

#[tokio::test(start_paused = true)]
async fn incomplete_messages_are_bounded_for_each_address() {
    let limits = Limits::default().buffered_bytes(64 * MIB).buffered_bytes_per_peer(20 * MIB);
    let server = serve(limits);
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = connect_from(&server, 1).await;
        send_but_one(&mut client, 4 * MIB - 100).await;
        slow.push(client);
    }
    sleep(millis(1)).await;
    let held = server.handle.buffered_bytes();
    assert!(held <= 21 * MIB && held > 10 * MIB, "{held}");
    assert!(refused(&server.handle.overview(), "buffered_bytes_per_peer") > 0);
    // Those that had no room were refused, and their connections go on.
    let refusal = slow.last_mut().unwrap().response().await;
    let said = refusal.assert_error(Code::ResourceExhausted, REFUSED);
    assert_eq!(said, "the share of this peer in the server's buffers is full: 20971520 bytes");
    // A client of the same address is served; one of another has the room for large calls, too.
    connect_from(&server, 1).await.call("T.echo", json!({"text": "small"})).await.value();
    let mut another = connect_from(&server, 2).await;
    hold_clock(another.call("T.count", padding(3 * MIB))).await.value();
}

#[tokio::test(start_paused = true)]
async fn incomplete_messages_of_a_size_that_has_come_before_are_bounded_too() {
    let limits = Limits::default().buffered_bytes(64 * MIB).buffered_bytes_per_peer(20 * MIB);
    let server = serve(limits);
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = connect_from(&server, 1).await;
        hold_clock(client.call("T.count", padding(4 * MIB - 1000))).await.value();
        slow.push(client);
    }
    // The memory for the whole of each is there as soon as its size is known.
    let mut rests = Vec::new();
    for client in &mut slow {
        let header =
            HeaderRef { service_method: "T.count", ..HeaderRef::new(Kind::Request, client.next_seq()) };
        let bytes = client.encode(&header, Bytes::from(vec![0xc0; 4 * MIB - 1000]));
        client.write(&bytes[..100]).await;
        rests.push(bytes[100..bytes.len() - 1].to_vec());
    }
    sleep(millis(1)).await;
    for (client, rest) in slow.iter_mut().zip(&rests) {
        client.write(rest).await;
    }
    sleep(millis(1)).await;
    let held = server.handle.buffered_bytes();
    assert!(held <= 21 * MIB && held > 10 * MIB, "{held}");
    let refusal = slow.last_mut().unwrap().response().await;
    refusal.assert_error(Code::ResourceExhausted, REFUSED);
}

#[tokio::test(start_paused = true)]
async fn connection_that_holds_most_without_progress_makes_room_for_others() {
    let server = serve(Limits::default().buffered_bytes(65 * MIB / 4).buffered_bytes_per_peer(None));
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut client = connect_from(&server, 1).await;
        send_but_one(&mut client, 4 * MIB - 100).await;
        settle().await;
        // The pool of large buffers is that of all tests: one larger than needed may leave no room for the next for a moment.
        if server.handle.buffered_bytes() > (slow.len() + 1) * 4 * MIB - MIB {
            slow.push(client);
        }
        if slow.len() == 3 {
            break;
        }
    }
    assert_eq!(slow.len(), 3, "there is room for three");
    sleep(millis(900)).await;
    let mut other = connect_from(&server, 1).await;
    let answer = hold_clock(other.call("T.count", padding(250_000))).await;
    answer.assert_error(Code::ResourceExhausted, REFUSED);
    sleep(millis(200)).await;
    hold_clock(other.call("T.count", padding(250_000))).await.value();
    assert_eq!(server.handle.overview().shed_connections, 1);
    sleep(secs(2)).await;
    assert_eq!(server.handle.connections(), 3);
}

#[tokio::test(start_paused = true)]
async fn small_responses_to_peers_that_do_not_read_are_bounded_for_each_address() {
    const CLIENTS: usize = 30;
    let limits = Limits::default().buffered_bytes(64 * MIB).buffered_bytes_per_peer(4 * MIB);
    let server = serve(limits);
    let mut unread = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = connect_from(&server, 1).await;
        for _ in 0..6_000 {
            // The server stops reading at some point.
            let sent = timeout(millis(1), client.request("T.echo", json!({"text": "x".repeat(100)})));
            if sent.await.is_err() {
                break;
            }
        }
        unread.push(client);
    }
    sleep(millis(1)).await;
    // Each may keep what was read of its requests, and what is guaranteed to it.
    let (held, most) = (server.handle.buffered_bytes(), 4 * MIB + CLIENTS * (64 + 32) * 1024);
    assert!(held <= most && held > 2 * MIB, "{held} of {most}");
    connect_from(&server, 1).await.call("T.echo", json!({"text": "small"})).await.value();
    let mut another = connect_from(&server, 2).await;
    hold_clock(another.call("T.count", padding(MIB))).await.value();
}

#[tokio::test(start_paused = true)]
async fn reader_that_takes_nothing_makes_room_for_others() {
    let server = serve(Limits::default().buffered_bytes(4 * MIB));
    let mut unread = connect_from(&server, 1).await;
    unread.request("T.big", json!({"n": 4 * MIB - 100})).await;
    sleep(secs(2)).await;
    let mut other = connect_from(&server, 1).await;
    hold_clock(other.call("T.count", padding(300_000))).await.value();
    sleep(millis(1)).await;
    assert_eq!(server.handle.connections(), 1, "it could not even be told");
}

#[tokio::test(start_paused = true)]
async fn responses_to_clients_that_do_not_read_are_bounded_for_each_address() {
    let limits = Limits::default().buffered_bytes(80 * MIB).buffered_bytes_per_peer(20 * MIB);
    let server = serve(limits);
    let mut unread = Vec::new();
    for method in ["T.big", "T.big_later"].repeat(15) {
        let mut client = connect_from(&server, 1).await;
        client.request(method, json!({"n": 2 * MIB})).await;
        unread.push(client);
    }
    sleep(millis(500)).await;
    let held = server.handle.buffered_bytes();
    assert!(held > 15 * MIB && held <= 22 * MIB, "{held}");
    let last = unread.last_mut().unwrap().response().await;
    last.assert_error(Code::ResourceExhausted, Execution::Done);
    let mut other = connect_from(&server, 1).await;
    other.call("T.echo", json!({"text": "small"})).await.value();
    sleep(secs(31)).await;
    // Those that were owed nothing large are still there.
    assert!(server.handle.buffered_bytes() < MIB, "{}", server.handle.buffered_bytes());
}

#[tokio::test(start_paused = true)]
async fn reader_of_one_byte_a_second_is_closed() {
    let server = serve(Limits::default());
    let mut client = connect_from(&server, 1).await;
    client.request("T.big", json!({"n": 3 * MIB})).await;
    let start = Instant::now();
    while server.handle.connections() > 0 {
        let _ = client.frames.stream.read_u8().await;
        sleep(secs(1)).await;
    }
    assert!(start.elapsed() <= secs(32), "{:?}", start.elapsed());
    assert_eq!(server.handle.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn metadata_counts_as_it_lies_in_memory() {
    let server = serve(Limits::default());
    let mut client = connect_from(&server, 1).await;
    let mut metadata = Metadata::new();
    for n in 0..1024 {
        metadata.insert(format!("{n:x}"), "").unwrap();
    }
    for _ in 0..100 {
        let header = HeaderRef {
            service_method: "T.wait",
            metadata: Some(&metadata),
            ..HeaderRef::new(Kind::Request, client.next_seq())
        };
        client.send(&header, "").await;
    }
    sleep(millis(1)).await;
    let held = server.handle.buffered_bytes();
    assert!((100 * 20_000..100 * 60_000).contains(&held), "{held}");
    let overview = server.handle.overview();
    assert_eq!(used(&overview, "buffered_bytes_per_peer"), held as u64);
    assert_eq!(overview.connections[0].buffered_bytes, held);
    drop(client);
    server.assert_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn request_with_too_many_pairs_of_metadata_is_refused() {
    let server = serve(Limits::default());
    for codec in [Codec::MessagePack, Codec::Json] {
        let terms = ClientOffer::default().codec(codec.clone());
        let mut client = Raw::connect_with(&server.handle, &terms).await;
        let seq = client.next_seq().0 as u8;
        let header = if codec == Codec::Json {
            let pairs: Vec<_> = (0..6000).map(|n| format!(r#""{n:x}":"""#)).collect();
            let pairs = pairs.join(",");
            format!(r#"{{"kind":"request","seq":1,"service_method":"T.count","metadata":{{{pairs}}}}}"#)
                .into()
        } else {
            let mut header = vec![0x96, 1, seq, 0xa7];
            header.extend(b"T.count\x00\xc0\xdf");
            header.extend(13_000_u32.to_be_bytes());
            for n in 0..13_000_u32 {
                header.extend([
                    0xa3,
                    b'a' + (n % 26) as u8,
                    b'a' + (n / 26 % 26) as u8,
                    b'a' + (n / 676) as u8,
                    0xa0,
                ]);
            }
            header
        };
        client.write(&[&frame(&header)[..], &[0; 4]].concat()).await;
        let answer = client.response().await;
        let said = answer.assert_error(Code::InvalidArgument, REFUSED);
        assert!(
            said.starts_with("metadata of ") && said.ends_with(" pairs: the limit is 1024 pairs"),
            "{said}"
        );
        // The call alone is refused.
        client.call("T.count", none()).await.value();
    }
}

#[tokio::test(start_paused = true)]
async fn compressed_bodies_count_as_they_are_inflated() {
    let server = serve(Limits::default().buffered_bytes_per_connection(20 * MIB));
    let terms = ClientOffer::default().compression(vec![Compression::Lz4]);
    let mut client = Raw::connect_with(&server.handle, &terms).await;
    let body = client.codec().encode(&padding(3 * MIB)).unwrap();
    let body = Compression::Lz4.compress(&body).unwrap();
    for _ in 0..4 {
        let seq = client.next_seq();
        let flags = farcall_protocol::Flags::COMPRESSED;
        let header = HeaderRef { service_method: "T.wait", flags, ..HeaderRef::new(Kind::Request, seq) };
        client.send(&header, body.clone()).await;
    }
    let answer = client.response().await;
    let said = answer.assert_error(Code::ResourceExhausted, REFUSED);
    assert_eq!(said, "the share of this connection in the server's buffers is full: 20971520 bytes");
    let held = server.handle.buffered_bytes();
    assert!((18 * MIB..=20 * MIB).contains(&held), "{held}");
}

#[tokio::test(start_paused = true)]
async fn each_connection_has_some_calls_whatever_others_do() {
    let server = serve(Limits::default().max_in_flight_in_all(2048).max_in_flight_per_peer(1500));
    let mut greedy = [connect_from(&server, 1).await, connect_from(&server, 1).await];
    for client in &mut greedy {
        for _ in 0..1000 {
            client.request("T.wait", none()).await;
        }
    }
    sleep(millis(1)).await;
    assert_eq!(server.handle.in_flight(), 1500);
    let overview = server.handle.overview();
    assert_eq!(refused(&overview, "max_in_flight_per_peer"), 500);
    assert_eq!(used(&overview, "max_in_flight_per_peer"), 1500);
    let said = greedy[1].response().await;
    let said = said.assert_error(Code::ResourceExhausted, REFUSED);
    assert_eq!(said, "1500 calls are in flight from this peer");
    // Others of the same address have four, those of another all that is left.
    let mut same = connect_from(&server, 1).await;
    same.call("T.sleep", json!({"n": 5})).await.value();
    for _ in 0..5 {
        same.request("T.wait", none()).await;
    }
    same.response().await.assert_error(Code::ResourceExhausted, REFUSED);
    let mut other = connect_from(&server, 2).await;
    for _ in 0..600 {
        other.request("T.wait", none()).await;
    }
    sleep(millis(1)).await;
    assert_eq!(server.handle.in_flight(), 2048);
    connect_from(&server, 3).await.call("T.sleep", json!({"n": 5})).await.value();
}

#[tokio::test(start_paused = true)]
async fn places_that_are_short_are_divided_between_connections() {
    let server = serve(Limits::default().max_in_flight_in_all(400).max_in_flight_per_peer(None));
    let (mut greedy, mut modest) = (connect_from(&server, 1).await, connect_from(&server, 2).await);
    modest.request("T.wait", none()).await;
    sleep(millis(1)).await;
    for _ in 0..400 {
        greedy.request("T.wait", none()).await;
    }
    sleep(millis(1)).await;
    assert_eq!(server.handle.in_flight(), 300, "a quarter is left for those with less than their share");
    let said = greedy.response().await;
    let said = said.assert_error(Code::ResourceExhausted, REFUSED);
    assert_eq!(
        said,
        "200 calls are in flight on this connection, its share while the server has few places left"
    );
    for _ in 0..99 {
        modest.request("T.wait", none()).await;
    }
    sleep(millis(1)).await;
    assert_eq!(server.handle.in_flight(), 399);
    assert_eq!(refused(&server.handle.overview(), "max_in_flight_in_all_share"), 101);
    // A third one, of the same address as the greedy one, has its part of the address's share.
    let mut third = connect_from(&server, 1).await;
    third.call("T.sleep", json!({"n": 5})).await.value();
}

/// Returns the address of a peer's connection by its number.
type Peers<'a> = &'a dyn Fn(i32) -> PeerAddress;

#[tokio::test(start_paused = true)]
async fn many_connections_of_one_peer_have_one_share() {
    let user = |uid| move |pid| PeerAddress::unix(Some(pid), Some(uid));
    let network = |net: u16| {
        move |host: i32| PeerAddress::Tcp(([0x2001, 0xdb8, 0, net, 0, 0, 0, host as u16], 7).into())
    };
    let peers: [(Peers<'_>, Peers<'_>); 3] =
        [(&user(1000), &user(1001)), (&network(1), &network(2)), (&|_| PeerAddress::Memory, &user(1000))];
    for (greedy, modest) in peers {
        let server = serve(Limits::default().max_in_flight_in_all(400).max_in_flight_per_peer(None));
        let connect =
            async |peer| Raw::shake(open_from(&server.handle, peer), &ClientOffer::default()).await.unwrap();
        let mut modest = connect(modest(0)).await;
        modest.request("T.wait", none()).await;
        let mut of_greedy = Vec::new();
        for number in 1..=4 {
            let mut client = connect(greedy(number)).await;
            for _ in 0..100 {
                client.request("T.wait", none()).await;
            }
            sleep(millis(1)).await;
            of_greedy.push(client);
        }
        // Three quarters are for all. The fourth connection has a fourth of one of two shares, not one of five.
        assert_eq!(server.handle.in_flight(), 300 + 50, "{}", greedy(1));
        for _ in 0..50 {
            modest.request("T.wait", none()).await;
        }
        sleep(millis(1)).await;
        assert_eq!(server.handle.in_flight(), 400);
    }
}

#[tokio::test(start_paused = true)]
async fn limits_for_each_peer_hold_for_local_users_too() {
    let limits = Limits::default().max_in_flight_per_peer(100).buffered_bytes(64 * MIB);
    let server = serve(limits.buffered_bytes_per_peer(20 * MIB));
    let mut clients = Vec::new();
    for pid in 1..=10 {
        let peer = PeerAddress::unix(Some(pid), Some(1000));
        let client = Raw::shake(open_from(&server.handle, peer), &ClientOffer::default()).await;
        clients.push(client.unwrap());
    }
    for client in &mut clients {
        for _ in 0..30 {
            client.request("T.wait", none()).await;
        }
        sleep(millis(1)).await;
    }
    // Each connection has four whatever others do.
    assert_eq!(server.handle.in_flight(), 100 + 6 * 4);
    for client in &mut clients {
        send_but_one(client, 4 * MIB - 100).await;
    }
    sleep(millis(1)).await;
    let held = server.handle.buffered_bytes();
    assert!(held <= 21 * MIB && held > 10 * MIB, "{held}");
}

/// Sends a request for an hour and a goaway, and closes its half.
async fn half_close(server: &Running) -> Raw {
    let mut client = connect_from(server, 1).await;
    client.request("T.hang", none()).await;
    client.goaway().await;
    client.frames.stream.shutdown().await.unwrap();
    sleep(millis(1)).await;
    client
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_half_closed_client_that_has_gone_end() {
    let server = serve(Limits::default());
    let client = half_close(&server).await;
    drop(client);
    sleep(secs(11)).await;
    server.assert_nothing_left().await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_half_closed_client_end_in_a_bounded_time() {
    let server = serve(Limits::default().half_close_timeout(secs(30)));
    let start = Instant::now();
    let mut client = half_close(&server).await;
    client.assert_closed().await;
    assert_eq!(start.elapsed().as_secs(), 30);
    server.assert_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_server_does_not_wait_for_half_closed_clients_that_have_gone() {
    let server = serve(Limits::default());
    let client = half_close(&server).await;
    let mut waiting = half_close(&server).await;
    drop(client);
    server.handle.stop();
    sleep(millis(1100)).await;
    assert_eq!(server.handle.connections(), 1, "one waits for its response");
    waiting.assert_goaway(1, Code::Unavailable).await;
    drop(waiting);
    sleep(millis(1100)).await;
    assert!(server.serving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn client_that_said_goaway_is_still_pinged() {
    let server = serve(Limits::default());
    let mut client = connect_from(&server, 1).await;
    client.request("T.hang", none()).await;
    client.goaway().await;
    assert_eq!(client.next().await.unwrap().header.kind, Kind::Ping);
    client.assert_closed().await;
    server.assert_nothing_left().await;
}
