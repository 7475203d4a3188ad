//! The texts of the client's errors, pinned here and nowhere else: other tests check codes and fields,
//! so that a text can be improved by changing one line of this file.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use std::io;
use std::net::SocketAddr;

use farcall_client::{Channel, Connection, ConnectionOptions, RpcError};
use farcall_discovery::{Instance, MemoryRegistry, Registrar as _};
use farcall_protocol::{Code, Codec, Execution, Flags, HeaderRef, Kind, MaxFrameBytes, ServerPolicy, Status};
use farcall_test_support::frames::{frame_of, refuse_handshake};
use farcall_test_support::loopback::{FullBacklog, refusing_address};
use farcall_test_support::wait::stop_clock;
use farcall_transport::{Address, Dialer, Resolve, Resolving, Stream};
use support::{
    Listener, MEMORY, MS, Peer, S, channel, connect, connect_for, connect_with, pass, rpc, settle,
};
use tokio::time::Duration;

const UNKNOWN: &str = "tcp@nowhere:7001";

/// Asserts the texts of errors, with the endpoint replaced by `ADDRESS`.
#[track_caller]
fn assert_texts(endpoint: &str, errors: &[RpcError], expected: &[&str]) {
    let texts: Vec<_> = errors.iter().map(|error| error.to_string().replace(endpoint, "ADDRESS")).collect();
    assert_eq!(texts, expected);
}

/// Resolves no name: it answers with an error after a millisecond, or never.
struct Resolver {
    answers: bool,
}

impl Resolve for Resolver {
    fn resolve<'a>(&'a self, _host: &'a str, _port: u16) -> Resolving<'a> {
        Box::pin(async {
            tokio::time::sleep(if self.answers { MS } else { 3600 * S }).await;
            Err::<Vec<SocketAddr>, _>(io::ErrorKind::NotFound.into())
        })
    }
}

async fn unresolved(answers: bool, connect_timeout: Duration) -> RpcError {
    let dialer = Dialer::default().resolver(Resolver { answers });
    let options = ConnectionOptions::default().connect_timeout(connect_timeout).dialer(dialer);
    Connection::open(&Address::parse(UNKNOWN).unwrap(), &options).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn resolving() {
    let errors =
        [unresolved(false, 10 * S).await, unresolved(false, 2 * S).await, unresolved(true, 2 * S).await];
    let expected = [
        "resolving ADDRESS: no answer about the name nowhere within 5 s (unavailable, not_sent)",
        "resolving ADDRESS: no answer about the name nowhere within 2 s (unavailable, not_sent)",
        "resolving ADDRESS: the name nowhere does not resolve: entity not found (unavailable, not_sent)",
    ];
    assert_texts(UNKNOWN, &errors, &expected);
}

#[tokio::test(start_paused = true)]
async fn backoff_after_a_failed_dial() {
    let dialer = Dialer::default().resolver(Resolver { answers: true });
    let options = ConnectionOptions::default().dialer(dialer);
    let channel = Channel::builder().to(UNKNOWN).options(options).build().unwrap();
    channel.call::<()>("A.a", &()).await.unwrap_err();
    let text = rpc(channel.call::<()>("A.a", &()).await).to_string();
    let (start, rest) = text.rsplit_once("dialed again in ").unwrap();
    assert_eq!(start, "resolving tcp@nowhere:7001: the name nowhere does not resolve: entity not found (");
    assert!(rest.ends_with("s) (unavailable, not_sent)"), "{text}");
}

#[tokio::test]
async fn connecting() {
    // The client dials a listener that does not answer: a full backlog, of which the kernel says nothing.
    let backlog = FullBacklog::bind().await;
    let silent = Address::tcp(backlog.address);
    let options = ConnectionOptions::default().connect_timeout(3 * S);
    let opening = tokio::spawn(async move { Connection::open(&silent, &options).await.unwrap_err() });
    pass(3 * S).await;
    let expected = "connecting to ADDRESS: no answer within 3 s (unavailable, not_sent)";
    assert_texts(&format!("tcp@{}", backlog.address), &[opening.await.unwrap()], &[expected]);

    let address = Address::tcp(refusing_address());
    let refused = Connection::open(&address, &ConnectionOptions::default()).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.starts_with(&format!("connecting to {address}: ")) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn shared_dial_of_a_channel() {
    let listener = Listener::bind().await;
    let options = ConnectionOptions::default().connect_timeout(3600 * S);
    let channel = Channel::builder().to(&*listener.address).options(options).build().unwrap();
    let hasty = channel.call::<i32>("A.a", &()).timeout(60 * S).start();
    let patient = channel.call::<i32>("A.b", &()).start();
    let mute = listener.accept_mute().await;
    // The client's Option is there: it waits for the answer.
    mute.readable().await.unwrap();
    pass(60 * S).await;
    let hasty = rpc(hasty.await);
    channel.close();
    let errors = [hasty, rpc(patient.await)];
    let expected = [
        "connecting to ADDRESS: it accepted the connection, and did not answer the handshake within 60 s \
         (deadline_exceeded, not_sent)",
        "connecting to ADDRESS: dialing was given up (unavailable, not_sent)",
    ];
    assert_texts(&listener.address, &errors, &expected);
}

/// The error of a handshake over a pipe whose other end does as `server` says.
async fn handshake(server: impl AsyncFnOnce(tokio::io::DuplexStream)) -> RpcError {
    let (near, far) = tokio::io::duplex(4096);
    let (address, options) = (Address::parse(MEMORY).unwrap(), ConnectionOptions::default());
    let (opened, ()) = tokio::join!(Connection::over(Stream::new(near), &address, &options), server(far));
    opened.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn handshakes() {
    let silent = handshake(async |far| {
        tokio::time::sleep(3600 * S).await;
        drop(far);
    });
    let (near, far) = tokio::io::duplex(4096);
    drop(far);
    let (address, options) = (Address::parse(MEMORY).unwrap(), ConnectionOptions::default());
    let hangs_up = Connection::over(Stream::new(near), &address, &options);
    let answers = |answer: &'static [u8]| {
        handshake(async |mut far| {
            tokio::io::AsyncWriteExt::write_all(&mut far, answer).await.unwrap();
            tokio::time::sleep(3600 * S).await;
        })
    };
    let refuses = handshake(async |far| {
        let terms = ServerPolicy::default().codecs(vec![Codec::Json]);
        refuse_handshake(far, &terms).await;
    });
    let wants_a_token = handshake(async |mut far| {
        let status = Status::refused(Code::Unauthenticated, "a token is required");
        let answer = ServerPolicy::default().encode_refusal(&status);
        let answer = frame_of(|outbox| outbox.push_frame(&answer));
        tokio::io::AsyncWriteExt::write_all(&mut far, &answer).await.unwrap();
        tokio::time::sleep(3600 * S).await;
    });
    let errors = [
        silent.await,
        hangs_up.await.unwrap_err(),
        refuses.await,
        wants_a_token.await,
        answers(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
        answers(b"\0\0\x12\x04\0\0\0\0\0").await,
        answers(b"\0\0\x06\x04\0\0\0\0\0").await,
        answers(b"SSH-2.0-OpenSSH_9.6\r\n").await,
        answers(b"\x15\x03\x01\0\x02\x02\x0a").await,
    ];
    let expected = [
        "connecting to ADDRESS: it accepted the connection, and did not answer the handshake within 10 s \
         (unavailable, not_sent)",
        "connecting to ADDRESS: it broke the connection (unavailable, not_sent)",
        "connecting to ADDRESS: it refused: codec_type `application/msgpack`: this server speaks \
         application/json (it speaks application/json) (invalid_argument, not_sent)",
        // Its codecs are of no interest: it speaks the one that was asked for.
        "connecting to ADDRESS: it refused: a token is required (unauthenticated, not_sent)",
        "connecting to ADDRESS: it speaks HTTP there: try `http@` or `ws@` (unavailable, not_sent)",
        "connecting to ADDRESS: it speaks HTTP/2 there, as gRPC does, and not farcall (unavailable, not_sent)",
        "connecting to ADDRESS: it speaks HTTP/2 there, as gRPC does, and not farcall (unavailable, not_sent)",
        "connecting to ADDRESS: it speaks SSH there, and not farcall (unavailable, not_sent)",
        "connecting to ADDRESS: it speaks TLS there, and the address is not encrypted: try `tls@` (unavailable, \
         not_sent)",
    ];
    assert_texts(MEMORY, &errors, &expected);
    let text = answers(b"220 mail.example ESMTP\r\n").await.to_string();
    assert!(text.contains("the answer is no Option"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn preparing() {
    let terms = ServerPolicy::default().max_frame_bytes(MaxFrameBytes::new(1000));
    let (connection, _peer) = connect_with(&ConnectionOptions::default(), &terms, 4096).await;
    let channel = Channel::from(connection);
    let errors = [
        rpc(channel.call::<()>("A.a", &("x".repeat(2000),)).await),
        rpc(channel.call::<()>("A.a", &()).metadata("Upper", "v").await),
        rpc(channel.call::<()>("A.a", &()).timeout(Duration::from_micros(999)).await),
    ];
    let expected = [
        "calling ADDRESS: `A.a`: the request's body of 2004 bytes is over the server's limit of 1000 bytes (its \
         `Limits::max_frame_bytes`) (resource_exhausted, not_sent)",
        "`A.a`: metadata key \"Upper\" has 'U': lower-case visible ASCII is allowed \
         (invalid_argument, not_sent)",
        "`A.a` was not called: of its time, 999 µs was left (deadline_exceeded, not_sent)",
    ];
    assert_texts(MEMORY, &errors, &expected);
    let header = rpc(channel.call::<()>("A.a", &()).metadata("k", "x".repeat(2000)).await).to_string();
    assert!(header.contains("the request's header of 20"), "{header}");

    struct Broken;
    impl serde::Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no such thing"))
        }
    }
    let broken = rpc(channel.call::<()>("A.a", &Broken).await).to_string();
    assert!(broken.starts_with("arguments of `A.a`: ") && broken.contains("no such thing"), "{broken}");
}

/// The error of a call that waits for an endpoint of `service`.
async fn not_found(registry: &MemoryRegistry, service: &str) -> RpcError {
    let channel =
        Channel::builder().discover(registry.discovery(service)).wait_for_ready(true).build().unwrap();
    rpc(channel.call::<()>("A.a", &()).timeout(S).await)
}

#[tokio::test(start_paused = true)]
async fn finding_an_endpoint() {
    let registry = MemoryRegistry::new();
    let nothing = not_found(&registry, "Foo").await;
    for service in ["Bar", "Baz", ""] {
        let instance = Instance::new(service, Address::parse("tcp@10.0.0.1:1").unwrap());
        registry.registrar().register(&instance).await.unwrap();
    }
    let others = not_found(&registry, "Foo").await;
    registry.interrupt("it is down");
    let errors = [nothing, others, not_found(&registry, "Foo").await];
    let expected = [
        "no endpoint within 1 s: Foo in this process's registry: the list is empty; it lists no service at all \
         (deadline_exceeded, not_sent)",
        "no endpoint within 1 s: Foo in this process's registry: the list is empty; it lists the plain list of \
         servers, `Bar`, `Baz` (deadline_exceeded, not_sent)",
        "no endpoint within 1 s: Foo in this process's registry: none was ever found; looking has failed for 1 s: it \
         is down (deadline_exceeded, not_sent)",
    ];
    assert_texts(UNKNOWN, &errors, &expected);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_slot_and_for_an_answer() {
    let (channel, mut peer) = connect_for(1).await;
    let first = channel.call::<i32>("A.a", &()).timeout(500 * MS).start();
    peer.request().await;
    let queued = channel.call::<()>("A.b", &()).timeout(200 * MS).await;
    let errors = [rpc(queued), rpc(first.await)];
    let expected = [
        "waiting for a place at ADDRESS: no place for the call within 200 ms: the connection has as many calls as the \
         server runs at once, 1 (its `Limits::max_in_flight`) (deadline_exceeded, not_sent)",
        "waiting for ADDRESS: no answer within 500 ms (deadline_exceeded, maybe)",
    ];
    assert_texts(MEMORY, &errors, &expected);
}

#[tokio::test(start_paused = true)]
async fn writing() {
    let terms = ServerPolicy::default();
    let (connection, _peer) = connect_with(&ConnectionOptions::default(), &terms, 4096).await;
    let channel = Channel::from(connection);
    let begun = channel.call::<()>("A.a", &(vec![0_u8; 100_000],)).start();
    settle().await;
    let unwritten = channel.call::<()>("A.b", &()).timeout(100 * MS).await;
    let behind = channel.call::<()>("A.c", &()).start();

    let small = ConnectionOptions::default().outbox_bytes(1000);
    let (connection, _other) = connect_with(&small, &terms, 4096).await;
    let full = Channel::from(connection);
    let _large = full.call::<()>("A.a", &(vec![0_u8; 100_000],)).start();
    settle().await;
    let _waiting = full.call::<()>("A.b", &(vec![0_u8; 1000],)).start();
    let no_room = full.call::<()>("A.c", &()).timeout(100 * MS).await;

    let errors = [rpc(unwritten), rpc(no_room), rpc(begun.await)];
    let expected = [
        "writing to ADDRESS: the request was not written within 100 ms (deadline_exceeded, maybe)",
        "writing to ADDRESS: no room for the request within 100 ms (deadline_exceeded, not_sent)",
        "waiting for ADDRESS: nothing could be written for 10 s (unavailable, maybe)",
    ];
    assert_texts(MEMORY, &errors, &expected);
    let behind = rpc(behind.await).to_string();
    assert!(behind.contains("nothing could be written for 10 s"), "{behind}");
}

/// The error of a call that is answered as `answer` says.
async fn answered(answer: impl AsyncFnOnce(&mut Peer, farcall_protocol::Seq)) -> RpcError {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<i32>("A.a", &()).start();
    let seq = peer.request().await.header.seq;
    answer(&mut peer, seq).await;
    rpc(call.await)
}

#[tokio::test(start_paused = true)]
async fn answers() {
    let escaped = answered(async |peer, seq| {
        peer.fail(seq, Code::Unimplemented, Execution::Refused, "no method\n\u{1b}[2J").await;
    });
    let compressed = answered(async |peer, seq| {
        let header = HeaderRef { flags: Flags::COMPRESSED, ..HeaderRef::new(Kind::Response, seq) };
        peer.send(&header, &b"1234 what"[..]).await;
    });
    let undecodable = answered(async |peer, seq| peer.answer(seq, &"seven").await);
    let errors = [escaped.await, compressed.await];
    let expected = [
        "answer of ADDRESS: no method\\n\\u{1b}[2J (unimplemented, refused)",
        "answer of ADDRESS: the result cannot be read: it is compressed, though no compression was \
         agreed on (internal, done)",
    ];
    assert_texts(MEMORY, &errors, &expected);
    let text = undecodable.await.to_string();
    assert!(text.starts_with("answer of tcp@10.0.0.3:7001: the result cannot be read: "), "{text}");
}

#[tokio::test(start_paused = true)]
async fn lost_connections() {
    let (ended, mut peer) = channel().await;
    let call = ended.call::<()>("A.a", &()).start();
    peer.request().await;
    drop(peer);
    let closed = rpc(call.await);
    let again = rpc(ended.call::<()>("A.b", &()).await);

    let (silent, mut peer) = channel().await;
    let call = silent.call::<()>("A.a", &()).start();
    peer.request().await;
    let unanswered_ping = rpc(call.await);

    let (draining, mut peer) = channel().await;
    let call = draining.call::<()>("A.a", &()).start();
    peer.request().await;
    peer.goaway(farcall_protocol::Seq(0), "draining").await;
    let goaway = rpc(call.await);

    let (local, _peer) = connect(&ConnectionOptions::default()).await;
    local.close();
    let own = rpc(Channel::from(local).call::<()>("A.a", &()).await).to_string();
    assert!(own.contains("this side closed the connection"), "{own}");

    let expected = [
        "waiting for ADDRESS: it closed the connection (unavailable, maybe)",
        "connecting to ADDRESS: it closed the connection, and this channel cannot dial again \
         (unavailable, not_sent)",
        "waiting for ADDRESS: it did not answer a ping (unavailable, maybe)",
        "connecting to ADDRESS: it said goaway: draining, and this channel cannot dial again \
         (unavailable, not_sent), after 2 attempts",
    ];
    assert_texts(MEMORY, &[closed, again, unanswered_ping, goaway], &expected);
}

#[tokio::test]
async fn reset_and_unstable_connections() {
    let listener = Listener::bind().await;
    let channel = Channel::to(&*listener.address).unwrap();
    // No backoff ends meanwhile.
    let (errors, paused) = stop_clock(async {
        let mut errors = Vec::new();
        for _ in 0..2 {
            let call = channel.call::<()>("A.a", &()).start();
            let mut peer = listener.accept().await;
            peer.request().await;
            // Closing with no time to linger sends a reset.
            peer.frames.stream.set_zero_linger().unwrap();
            drop(peer);
            errors.push(rpc(call.await));
        }
        (errors, rpc(channel.call::<()>("A.a", &()).await).to_string())
    })
    .await;
    let expected = ["waiting for ADDRESS: it broke the connection (unavailable, maybe)"; 2];
    assert_texts(&listener.address, &errors, &expected);
    let start = format!("connecting to {}: the last connection did not last: it ", listener.address);
    assert!(paused.starts_with(&start) && paused.contains(" (dialed again in "), "{paused}");
}

#[tokio::test(start_paused = true)]
async fn protocol_errors() {
    let too_large = (MaxFrameBytes::DEFAULT.get() as u32 + 1).to_be_bytes();
    let frames: [(&str, Vec<u8>); 4] = [
        ("a request is not for a server to send", vec![0, 0, 0, 3, 0x92, 1, 1, 0, 0, 0, 0]),
        ("header: kind 16 is unknown", vec![0, 0, 0, 3, 0x92, 16, 1, 0, 0, 0, 0]),
        ("header: ", vec![0, 0, 0, 1, 0xc1, 0, 0, 0, 0]),
        (
            "body of 4194305 bytes: the limit is 4194304 bytes",
            [&[0, 0, 0, 3, 0x92, 2, 1], &too_large[..]].concat(),
        ),
    ];
    for (what, frame) in frames {
        let text = answered(async |peer, _| peer.raw(&frame).await).await.to_string();
        let start = format!("waiting for tcp@10.0.0.3:7001: it broke the protocol: {what}");
        assert!(text.starts_with(&start), "{text}");
    }
}

#[tokio::test]
async fn several_tries() {
    let listener = Listener::bind().await;
    let channel = Channel::to(&*listener.address).unwrap();
    let call = tokio::spawn(channel.call::<i32>("A.a", &()).into_future());
    // Twenty of them count as no attempts.
    for _ in 0..23 {
        let mut peer = listener.accept().await;
        peer.request().await;
        // Longer than a connection must last for the next dial to be immediate, and than a pause before an attempt.
        pass(2 * S).await;
        peer.goaway(farcall_protocol::Seq(0), "draining").await;
        peer.expect(Kind::Goaway).await;
        pass(2 * S).await;
    }
    let expected = "waiting for ADDRESS: it said goaway: draining (unavailable, refused), after 23 attempts";
    assert_texts(&listener.address, &[rpc(call.await.unwrap())], &[expected]);
}

#[test]
fn runtime_shutdown() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (doomed, other) = (runtime(), runtime());
    let (sent, _peer) = doomed.block_on(async {
        let (channel, peer) = connect_for(1).await;
        let call = channel.call::<()>("A.a", &()).start();
        settle().await;
        (call, peer)
    });
    drop(doomed);
    let text = rpc(other.block_on(sent)).to_string();
    assert!(text.contains("the runtime of the connection was shut down"), "{text}");
}

#[test]
fn building_a_channel() {
    let text = Channel::to("tcp@").unwrap_err().to_string();
    assert!(text.starts_with("address \"tcp@\": "), "{text}");
    assert_eq!(
        Channel::builder().build().unwrap_err().to_string(),
        "no address: give one with `Channel::to` or `ChannelBuilder::to`, or a source of them"
    );
}
