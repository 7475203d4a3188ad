//! Streams that a connector opens, and the layers that the dialer puts on top of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use farcall_transport::{Address, Connect, Connecting, DialErrorKind, Dialer, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

/// Gives one end of a pipe to the dialer, and the other, with the address, to the test.
#[derive(Clone)]
struct Pipes(UnboundedSender<(Address, DuplexStream)>);

impl Pipes {
    fn new() -> (Self, UnboundedReceiver<(Address, DuplexStream)>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }
}

impl Connect for Pipes {
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let (near, far) = duplex(64 * 1024);
            self.0.send((address.clone(), far)).map_err(io::Error::other)?;
            Ok(Stream::new(near))
        })
    }
}

struct Unreachable;

impl Connect for Unreachable {
    fn connect<'a>(&'a self, _: &'a Address) -> Connecting<'a> {
        Box::pin(async { Err(io::Error::new(io::ErrorKind::NotConnected, "the bus is off")) })
    }
}

struct Silent;

impl Connect for Silent {
    fn connect<'a>(&'a self, _: &'a Address) -> Connecting<'a> {
        Box::pin(pending())
    }
}

async fn assert_sends(from: &mut Stream, to: &mut Stream) {
    from.write_all(b"hello").await.unwrap();
    from.flush().await.unwrap();
    let mut received = [0; 5];
    to.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"hello");
}

async fn assert_joined(near: &mut Stream, far: &mut Stream) {
    assert_sends(near, far).await;
    assert_sends(far, near).await;
}

#[tokio::test]
async fn connector_gets_the_whole_address() {
    let (pipes, mut accepted) = Pipes::new();
    let dialer = Dialer::default().connector(pipes);
    for text in ["tcp@no.such.host:7001", "tcp@10.0.0.1:0", "unix@/no/such/path"] {
        let mut near = dialer.dial(&Address::parse(text).unwrap()).await.unwrap();
        let (address, far) = accepted.recv().await.unwrap();
        assert_eq!(address.to_string(), text);
        assert_joined(&mut near, &mut Stream::new(far)).await;
    }
}

#[tokio::test]
async fn connectors_error_is_the_dials_error() {
    let dialer = Dialer::default().connector(Unreachable);
    let error = dialer.dial(&Address::parse("vm.test:7001").unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "connecting to tcp@vm.test:7001: the bus is off");
    assert!(matches!(error.reason(), DialErrorKind::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn io_error_of_a_dial_is_in_its_reason() {
    let dialer = Dialer::default().connector(Unreachable);
    let error = dialer.dial(&Address::parse("vm.test:7001").unwrap()).await.unwrap_err();
    let DialErrorKind::Connect { attempts, .. } = error.reason() else { panic!("{error:?}") };
    assert_eq!(attempts.iter().next().unwrap().error.kind(), io::ErrorKind::NotConnected);
}

#[tokio::test(start_paused = true)]
async fn silent_connector_is_given_up_after_the_connect_timeout() {
    let dialer = Dialer::default().connector(Silent).connect_timeout(Duration::from_secs(3));
    let began = Instant::now();
    let error = dialer.dial(&Address::parse("vm.test:7001").unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "connecting to tcp@vm.test:7001: no answer within 3 s");
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn dial_without_limits_waits() {
    let dialer = Dialer::default().connector(Silent).connect_timeout(None).resolve_timeout(None);
    let address = Address::parse("vm.test:7001").unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    assert!(tokio::time::timeout(day, dialer.dial(&address)).await.is_err());
}

#[cfg(feature = "tls")]
mod tls {
    use farcall_test_support::pki::Certificate;
    use farcall_transport::{Alpn, TlsClient, TlsServer};

    use super::*;

    #[tokio::test]
    async fn tls_is_spoken_in_the_connectors_stream() {
        let Certificate { chain, key } = Certificate::self_signed(&["arith.test"]);
        let server = TlsServer::builder().certificate_pem(chain.clone(), key).build().unwrap();
        let client = TlsClient::builder().roots_pem(chain).build().unwrap();

        let (pipes, mut accepted) = Pipes::new();
        let dialer = Dialer::default().connector(pipes).tls(client);
        let address = Address::parse("tls@arith.test:7001").unwrap();
        let serve = async {
            let (address, far) = accepted.recv().await.unwrap();
            assert_eq!(address.to_string(), "tls@arith.test:7001");
            let mut far = server.accept(far, Alpn::Farcall);
            far.flush().await.unwrap();
            far
        };
        let (near, mut far) = tokio::join!(dialer.dial(&address), serve);
        let mut near = near.unwrap();
        assert_joined(&mut near, &mut far).await;
        assert_eq!(near.tls().unwrap().alpn.as_deref(), Some("farcall/1"));
    }
}

#[cfg(feature = "http")]
mod http {
    use farcall_transport::Proxy;

    use super::*;

    /// Reads the head of a request, and answers it.
    async fn answer(far: &mut DuplexStream, response: &str) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(far.read_u8().await.unwrap());
        }
        far.write_all(response.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    }

    const SWITCHED: &str =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: farcall\r\n\r\n";

    #[tokio::test]
    async fn upgrade_is_requested_in_the_connectors_stream() {
        let (pipes, mut accepted) = Pipes::new();
        let dialer = Dialer::default().connector(pipes);
        let address = Address::parse("http@arith.test:80").unwrap();
        let serve = async {
            let (_, mut far) = accepted.recv().await.unwrap();
            let head = answer(&mut far, SWITCHED).await;
            assert!(head.starts_with("GET /_farcall_ HTTP/1.1\r\nHost: arith.test\r\n"), "{head}");
            Stream::new(far)
        };
        let (near, mut far) = tokio::join!(dialer.dial(&address), serve);
        assert_joined(&mut near.unwrap(), &mut far).await;
    }

    #[tokio::test]
    async fn connector_opens_the_stream_to_the_proxy() {
        let (pipes, mut accepted) = Pipes::new();
        let proxy = Proxy::parse("http://proxy.test:3128").unwrap();
        let dialer = Dialer::default().connector(pipes).proxy(proxy).unwrap();
        let address = Address::parse("tcp@arith.test:7001").unwrap();
        let serve = async {
            let (address, mut far) = accepted.recv().await.unwrap();
            assert_eq!(address.to_string(), "tcp@proxy.test:3128");
            let head = answer(&mut far, "HTTP/1.1 200 OK\r\n\r\n").await;
            assert!(head.starts_with("CONNECT arith.test:7001 HTTP/1.1\r\n"), "{head}");
            Stream::new(far)
        };
        let (near, mut far) = tokio::join!(dialer.dial(&address), serve);
        assert_joined(&mut near.unwrap(), &mut far).await;
    }
}

#[tokio::test]
async fn connector_is_shared_by_clones_of_the_dialer() {
    let (pipes, mut accepted) = Pipes::new();
    let dialer = Arc::new(Dialer::default().connector(pipes));
    let copy = Dialer::clone(&dialer);
    copy.dial(&Address::parse("a.test:1").unwrap()).await.unwrap();
    dialer.dial(&Address::parse("a.test:2").unwrap()).await.unwrap();
    assert_eq!(accepted.recv().await.unwrap().0.port(), Some(1));
    assert_eq!(accepted.recv().await.unwrap().0.port(), Some(2));
}
