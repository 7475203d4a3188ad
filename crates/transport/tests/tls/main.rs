//! TLS over real sockets: who gets through, and what is said to those who do not.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "all of it is test code")]

mod authority;
mod files;
mod handshakes;
mod programs;
mod streams;

use std::io;
use std::time::Duration;

use authority::{Authority, Pair};
use farcall_transport::{
    Address, DialError, DialErrorKind, Dialer, Listener, Stream, TlsClient, TlsErrorKind, TlsServer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Longer than anything takes here, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn parse(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn server(pair: &Pair) -> TlsServer {
    TlsServer::builder().certificate_pem(&*pair.chain, &*pair.key).build().unwrap()
}

fn trusting(authority: &Authority) -> TlsClient {
    TlsClient::builder().roots_pem(&*authority.pem).build().unwrap()
}

async fn listen(tls: &TlsServer) -> Listener {
    Listener::bind_with(&parse("tls@127.0.0.1:0"), tls).await.unwrap()
}

/// Dials and accepts; what either side makes of it. The server reads a byte, and sends it back.
async fn meet(listener: &Listener, client: &TlsClient) -> (Result<Stream, DialError>, io::Result<Stream>) {
    let dialer = Dialer::default().tls(client.clone());
    let dialing = async {
        let mut stream = dialer.dial(listener.address()).await?;
        // A server that wants a certificate refuses behind the client's handshake.
        let _ = stream.write_all(b"!").await;
        Ok(stream)
    };
    let accepting = async {
        let (mut stream, _) = listener.accept().await?;
        let byte = stream.read_u8().await?;
        stream.write_all(&[byte]).await?;
        stream.flush().await?;
        Ok(stream)
    };
    timeout(PATIENCE, async { tokio::join!(dialing, accepting) }).await.unwrap()
}

/// A connection that is open.
async fn open(tls: &TlsServer, client: &TlsClient) -> (Stream, Stream) {
    let listener = listen(tls).await;
    let (near, far) = meet(&listener, client).await;
    let (mut near, far) = (near.unwrap(), far.unwrap());
    assert_eq!(near.read_u8().await.unwrap(), b'!');
    (near, far)
}

#[track_caller]
fn dial_fault(outcome: Result<Stream, DialError>) -> TlsErrorKind {
    match outcome.unwrap_err().into_reason() {
        DialErrorKind::Tls(fault) => fault,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn fault<T>(outcome: io::Result<T>) -> TlsErrorKind {
    let Err(error) = outcome else { panic!("it was to fail") };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsErrorKind>()) {
        Some(fault) => fault.clone(),
        None => panic!("{error:?}"),
    }
}
