//! TLS over real sockets: the connections that are let through, and the errors of those that are not.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "all of it is test code")]

mod files;
mod handshakes;
mod programs;
mod streams;

use std::io;

use farcall_test_support::pki::{Authority, Certificate};
use farcall_test_support::wait::within_patience;
use farcall_transport::{
    Address, DialError, DialErrorKind, Dialer, Listener, Stream, TlsClient, TlsErrorKind, TlsServer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn parse(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn server(pair: &Certificate) -> TlsServer {
    TlsServer::builder().certificate_pem(&*pair.chain, &*pair.key).build().unwrap()
}

fn trusting(authority: &Authority) -> TlsClient {
    TlsClient::builder().roots_pem(&*authority.certificate).build().unwrap()
}

async fn listen(tls: &TlsServer) -> Listener {
    Listener::bind_with(&parse("tls@127.0.0.1:0"), tls).await.unwrap()
}

/// Dials and accepts, and returns the outcome of either side. The server reads a byte, and sends it back.
async fn meet(listener: &Listener, client: &TlsClient) -> (Result<Stream, DialError>, io::Result<Stream>) {
    let dialer = Dialer::default().tls(client.clone());
    let dialing = async {
        let mut stream = dialer.dial(listener.address()).await?;
        // A server that requires a certificate refuses after the client's handshake.
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
    within_patience("both sides are done", Box::pin(async { tokio::join!(dialing, accepting) })).await
}

/// Opens a connection.
async fn open(tls: &TlsServer, client: &TlsClient) -> (Stream, Stream) {
    let listener = listen(tls).await;
    let (near, far) = meet(&listener, client).await;
    let (mut near, far) = (near.unwrap(), far.unwrap());
    assert_eq!(near.read_u8().await.unwrap(), b'!');
    (near, far)
}

#[track_caller]
fn dial_error(outcome: Result<Stream, DialError>) -> TlsErrorKind {
    match outcome.unwrap_err().into_reason() {
        DialErrorKind::Tls(error) => error,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn tls_error<T>(outcome: io::Result<T>) -> TlsErrorKind {
    let Err(error) = outcome else { panic!("it does not fail") };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsErrorKind>()) {
        Some(kind) => kind.clone(),
        None => panic!("{error:?}"),
    }
}
