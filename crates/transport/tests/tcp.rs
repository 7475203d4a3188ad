//! Dialing and listening over real TCP sockets on the loopback interface.

use std::io;
use std::net::SocketAddr;

use farcall_test_support::loopback::own_address;
use farcall_transport::{
    Address, DialErrorKind, Dialer, ListenError, Listener, PeerAddress, Resolve, Resolving, Scheme,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// A resolver that knows one name, with these addresses.
struct Name(Vec<SocketAddr>);

impl Resolve for Name {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolving<'a> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

fn parse(text: &str) -> Address {
    Address::parse(text).expect("a well-formed address")
}

async fn listen(text: &str) -> Listener {
    Listener::bind(&parse(text)).await.expect("a free port")
}

/// A port that is taken and refuses connections: bound, but without a listener.
fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = socket.local_addr().expect("a bound socket");
    (socket, address)
}

#[tokio::test]
async fn bytes_go_both_ways() {
    let listener = listen("127.0.0.1:0").await;
    let mut near = Dialer::default().dial(listener.address()).await.unwrap();
    let (mut far, peer) = listener.accept().await.unwrap();
    assert!(matches!(peer, PeerAddress::Tcp(_)));
    assert_eq!(peer.ip(), Some([127, 0, 0, 1].into()));

    near.write_all(b"ping").await.unwrap();
    let mut received = [0; 4];
    far.read_exact(&mut received).await.unwrap();
    far.write_all(b"pong").await.unwrap();
    far.shutdown().await.unwrap();
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!((&received, &answer[..]), (b"ping", &b"pong"[..]));
}

#[tokio::test]
async fn listener_returns_the_port_that_the_system_chose() {
    let listener = listen("tcp@0.0.0.0:0").await;
    assert_eq!(listener.address().host(), Some("0.0.0.0"));
    let port = listener.address().port().unwrap();
    assert_ne!(port, 0);
    assert!(listener.address().is_unspecified());

    let dialed = Dialer::default().dial(&parse(&format!("127.0.0.1:{port}"))).await;
    assert!(dialed.is_ok());
}

#[tokio::test]
async fn ipv6_can_be_listened_at_and_dialed() {
    let listener = match Listener::bind(&parse("[::1]:0")).await {
        Ok(listener) => listener,
        // A machine without IPv6.
        Err(ListenError::Bind { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    Dialer::default().dial(listener.address()).await.unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    assert!(peer.to_string().starts_with("tcp@[::1]:"), "{peer}");
}

#[tokio::test]
async fn name_can_be_listened_at_and_dialed() {
    let listener = listen("localhost:0").await;
    let port = listener.address().port().unwrap();
    assert!(listener.address().socket_addr().is_some_and(|real| real.ip().is_loopback()));
    Dialer::default().dial(&parse(&format!("localhost:{port}"))).await.unwrap();
}

#[tokio::test]
async fn name_is_reached_at_the_address_that_answers() {
    let (_taken, dead) = refusing();
    let listener = listen("127.0.0.1:0").await;
    let live = listener.address().socket_addr().unwrap();
    let dialer = Dialer::default().resolver(Name(vec![dead, live]));
    dialer.dial(&parse("some.name:1")).await.unwrap();
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn refused_connection_names_the_address() {
    let (_taken, dead) = refusing();
    let address = Address::tcp(dead);
    let error = Dialer::default().dial(&address).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("connecting to {address}: Connection refused")), "{text}");

    let DialErrorKind::Connect { attempts } = error.reason() else { panic!("{text}") };
    let kinds: Vec<_> = attempts.iter().map(|attempt| attempt.error.kind()).collect();
    assert_eq!(kinds, [io::ErrorKind::ConnectionRefused]);
}

#[tokio::test]
async fn taken_port_is_in_use() {
    let listener = listen("127.0.0.1:0").await;
    let error = Listener::bind(listener.address()).await.unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("listening at {}: ", listener.address())));
    assert_eq!(error.address(), listener.address());
}

#[tokio::test]
async fn address_of_another_machine_cannot_be_listened_at() {
    // TEST-NET-1, which no machine has (RFC 5737).
    let error = Listener::bind(&parse("192.0.2.1:0")).await.unwrap_err();
    assert!(matches!(error, ListenError::Bind { .. }), "{error:?}");
}

#[tokio::test]
async fn port_can_be_bound_again_after_its_connections_closed() {
    let listener = listen(&own_address()).await;
    let address = listener.address().clone();
    let mut near = Dialer::default().dial(&address).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    // The side that closes first is the one that keeps the port in TIME_WAIT.
    drop((far, listener));
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).await.unwrap();
    drop(near);
    Listener::bind(&address).await.unwrap();
}

#[tokio::test]
async fn cancelled_accept_loses_no_connection() {
    let listener = listen("127.0.0.1:0").await;
    {
        let accept = std::pin::pin!(listener.accept());
        assert!(futures::poll!(accept).is_pending());
    }
    let mut near = Dialer::default().dial(listener.address()).await.unwrap();
    near.write_all(b"!").await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'!');
}

#[tokio::test]
#[allow(clippy::match_like_matches_macro, reason = "with some features all of them are constants")]
async fn other_schemes_are_not_built_in() {
    let built_in = |scheme: &Scheme| match scheme {
        Scheme::Tcp | Scheme::Unix => true,
        Scheme::Tls => cfg!(feature = "tls"),
        Scheme::Http | Scheme::Connect => cfg!(feature = "http"),
        Scheme::Ws => cfg!(feature = "ws"),
        Scheme::Https => cfg!(all(feature = "http", feature = "tls")),
        Scheme::Wss => cfg!(all(feature = "ws", feature = "tls")),
        _ => false,
    };
    for scheme in Scheme::ALL.into_iter().filter(|scheme| !built_in(scheme)) {
        let address = parse(&format!("{scheme}@127.0.0.1:1"));
        let dialed = Dialer::default().dial(&address).await.unwrap_err();
        assert_eq!(
            dialed.to_string(),
            format!("connecting to {address}: the scheme {scheme} is not built in")
        );
        assert!(matches!(dialed.into_reason(), DialErrorKind::NotBuiltIn { scheme: s } if s == scheme));

        let listened = Listener::bind(&address).await.unwrap_err();
        assert_eq!(
            listened.to_string(),
            format!("listening at {address}: the scheme {scheme} is not built in")
        );
    }
}
