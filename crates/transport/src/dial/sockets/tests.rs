//! Dialing in paused time, with simulated names and connections.

use std::future::pending;

use tokio::time::Instant;

use super::super::error::{DialError, DialPhase};
use super::*;
use crate::resolve::Resolving;

/// A resolver that gives one answer to every query.
enum Answer {
    Addresses(&'static [&'static str]),
    Unknown,
    Silence,
}

impl Resolve for Answer {
    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move {
            match self {
                Answer::Addresses(ips) => {
                    Ok(ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect())
                }
                Answer::Unknown => Err(io::Error::other("no such name")),
                Answer::Silence => pending().await,
            }
        })
    }
}

fn connector(resolver: impl Resolve) -> SocketConnector {
    SocketConnector { resolver: Arc::new(resolver), ..SocketConnector::default() }
}

fn named() -> Address {
    Address::parse("db.example:7001").unwrap()
}

async fn refuse(_: SocketAddr) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::ConnectionRefused.into())
}

async fn silence(_: SocketAddr) -> io::Result<SocketAddr> {
    pending().await
}

/// Dials and returns the text of the error, with the phase and the time that it took.
async fn failure<Attempt>(
    dialer: SocketConnector,
    address: &Address,
    connect: impl Fn(SocketAddr) -> Attempt,
) -> (String, DialPhase, Duration)
where
    Attempt: Future<Output = io::Result<SocketAddr>>,
{
    let begin = Instant::now();
    let reason = dialer.race_tcp(address, connect).await.unwrap_err();
    let error = DialError::new(address, reason);
    (error.to_string(), error.phase(), begin.elapsed())
}

#[tokio::test(start_paused = true)]
async fn ipv6_is_tried_before_ipv4() {
    let dialer = connector(Answer::Addresses(&["10.0.0.1", "::2"]));
    let reached = dialer.race_tcp(&named(), async |to| Ok(to)).await.unwrap();
    assert_eq!(reached, "[::2]:7001".parse().unwrap());
}

#[tokio::test(start_paused = true)]
async fn dead_address_family_costs_one_attempt_delay() {
    let dialer = connector(Answer::Addresses(&["10.0.0.1", "::2"]));
    let begin = Instant::now();
    let connect = async |to: SocketAddr| {
        if to.is_ipv6() { pending().await } else { Ok(to) }
    };
    let reached = dialer.race_tcp(&named(), connect).await.unwrap();
    assert_eq!(reached, "10.0.0.1:7001".parse().unwrap());
    assert_eq!(begin.elapsed().as_millis(), 250);
}

#[tokio::test(start_paused = true)]
async fn ip_address_is_never_resolved() {
    let dialer = connector(Answer::Unknown);
    let address = Address::parse("[::1]:7").unwrap();
    let reached = dialer.race_tcp(&address, async |to| Ok(to)).await.unwrap();
    assert_eq!(reached, "[::1]:7".parse().unwrap());
}

#[tokio::test(start_paused = true)]
async fn connect_timeout_names_the_address_and_the_limit() {
    let address = Address::parse("10.0.0.3:7001").unwrap();
    let (text, phase, took) = failure(SocketConnector::default(), &address, silence).await;
    assert_eq!(text, "connecting to tcp@10.0.0.3:7001: no answer within 10 s");
    assert_eq!((phase, took.as_secs()), (DialPhase::Connect, 10));
}

#[tokio::test(start_paused = true)]
async fn connect_timeout_spans_all_addresses_of_a_name() {
    let dialer = SocketConnector {
        connect_timeout: Some(Duration::from_millis(600)),
        ..connector(Answer::Addresses(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "::1"]))
    };
    let connect = async |to: SocketAddr| {
        if to.is_ipv6() { refuse(to).await } else { silence(to).await }
    };
    let (text, _, took) = failure(dialer, &named(), connect).await;
    assert_eq!(
        text,
        "connecting to tcp@db.example:7001: no answer within 600 ms; \
         before that: tcp@[::1]:7001: connection refused"
    );
    assert_eq!(took.as_millis(), 600);
}

#[tokio::test(start_paused = true)]
async fn error_has_all_failures_of_a_name_with_their_addresses() {
    let dialer = connector(Answer::Addresses(&["10.0.0.1", "::1"]));
    let (text, phase, _) = failure(dialer, &named(), refuse).await;
    assert_eq!(
        text,
        "connecting to tcp@db.example:7001: tcp@[::1]:7001: connection refused; \
         tcp@10.0.0.1:7001: connection refused"
    );
    assert_eq!(phase, DialPhase::Connect);
}

#[tokio::test(start_paused = true)]
async fn unknown_name_fails_in_resolving() {
    let (text, phase, _) = failure(connector(Answer::Unknown), &named(), refuse).await;
    assert_eq!(text, "resolving tcp@db.example:7001: the name db.example does not resolve: no such name");
    assert_eq!(phase, DialPhase::Resolve);
}

#[tokio::test(start_paused = true)]
async fn silent_resolver_is_given_up() {
    let (text, phase, took) = failure(connector(Answer::Silence), &named(), refuse).await;
    assert_eq!(text, "resolving tcp@db.example:7001: no answer about the name db.example within 5 s");
    assert_eq!((phase, took.as_secs()), (DialPhase::Resolve, 5));
}

#[tokio::test(start_paused = true)]
async fn name_blocked_in_a_hosts_file_has_no_addresses() {
    let dialer = connector(Answer::Addresses(&["0.0.0.0", "::"]));
    let (text, phase, _) = failure(dialer, &named(), async |to| Ok(to)).await;
    assert_eq!(text, "resolving tcp@db.example:7001: the name db.example has no addresses");
    assert_eq!(phase, DialPhase::Resolve);
}

#[tokio::test(start_paused = true)]
async fn unspecified_address_is_not_dialed() {
    let address = Address::parse("0.0.0.0:7001").unwrap();
    let (text, _, _) = failure(SocketConnector::default(), &address, async |to| Ok(to)).await;
    assert_eq!(text, "connecting to tcp@0.0.0.0:7001: one can listen at such an address, not dial it");
}

#[tokio::test]
async fn socket_connected_to_itself_is_refused() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let itself = socket.local_addr().unwrap();
    let stream = socket.connect(itself).await.unwrap();
    let error = refuse_self_connection(stream).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[tokio::test]
async fn kernel_holds_little_of_a_dialed_connection_that_it_has_not_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = connect_tcp(listener.local_addr().unwrap(), true).await.unwrap();
    assert_eq!(socket2::SockRef::from(&stream).tcp_notsent_lowat().unwrap(), 128 * 1024);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[tokio::test]
async fn send_buffer_of_a_connection_within_the_machine_is_bounded() {
    let listener = crate::Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
    let address = listener.address().socket_addr().unwrap();
    let size = |stream: &TcpStream| socket2::SockRef::from(stream).send_buffer_size().unwrap();

    let socket = connect_tcp(address, true).await.unwrap();
    let kernels = size(&socket);
    assert!(SendBuffer::System.apply(&socket).is_none());
    assert_eq!(size(&socket), kernels);
    assert!(SendBuffer::Bytes(64 * 1024).apply(&socket).is_none(), "a size that is set stays");
    assert_eq!(size(&socket), 64 * 1024);
    let mut adjusted = SendBuffer::ByMessageSize.apply(&socket).unwrap();
    assert_eq!(size(&socket), 256 * 1024);
    adjusted.note(64 * 1024, || panic!("it has the right size"));
    adjusted.note(900 * 1024, || Some(&socket));
    // The kernel may allow less than that.
    assert!((256 * 1024 + 1..=1024 * 1024).contains(&size(&socket)), "{}", size(&socket));
}
