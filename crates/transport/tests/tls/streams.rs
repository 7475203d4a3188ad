//! Bytes through TLS, and where they end.

use std::io;

use farcall_test_support::pki::Authority;
use farcall_test_support::wait::within_patience;
use farcall_transport::{Alpn, TlsErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{open, server, tls_error, trusting};

#[tokio::test]
async fn ten_mebibytes_go_both_ways_at_once() {
    const BYTES: usize = 10 * 1024 * 1024;
    let authority = Authority::new("ca");
    let (near, far) = open(&server(&authority.issue(&["127.0.0.1"])), &trusting(&authority)).await;
    let exchange = |stream| async {
        let (mut read, mut write) = tokio::io::split(stream);
        let sending = async {
            let data: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
            write.write_all(&data).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let receiving = async {
            let mut data = Vec::new();
            read.read_to_end(&mut data).await.unwrap();
            data
        };
        let ((), data) = tokio::join!(sending, receiving);
        assert_eq!(data.len(), BYTES);
        assert!(data.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
    };
    within_patience("all bytes arrive", async { tokio::join!(exchange(near), exchange(far)) }).await;
}

#[tokio::test]
async fn stream_without_close_notify_is_truncated() {
    let authority = Authority::new("ca");
    let (mut near, far) = open(&server(&authority.issue(&["127.0.0.1"])), &trusting(&authority)).await;
    // Closes the socket without a close_notify.
    drop(far);
    let read = within_patience("the stream ends", near.read_to_end(&mut Vec::new())).await;
    assert_eq!(read.as_ref().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(tls_error(read), TlsErrorKind::Truncated);

    let (near, mut far) = open(&server(&authority.issue(&["127.0.0.1"])), &trusting(&authority)).await;
    drop(near);
    assert_eq!(tls_error(within_patience("the stream ends", far.read_u8()).await), TlsErrorKind::Truncated);
}

#[tokio::test]
async fn shutdown_ends_one_direction_only() {
    let authority = Authority::new("ca");
    let (mut near, mut far) = open(&server(&authority.issue(&["127.0.0.1"])), &trusting(&authority)).await;
    near.shutdown().await.unwrap();
    assert_eq!(far.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    far.write_all(b"last").await.unwrap();
    far.shutdown().await.unwrap();
    let mut received = Vec::new();
    near.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"last");
}

#[tokio::test]
async fn changed_byte_is_an_error() {
    let authority = Authority::new("ca");
    let tls = server(&authority.issue(&["127.0.0.1"]));
    let (near, mut proxy_near) = tokio::io::duplex(64 * 1024);
    let (mut proxy_far, far) = tokio::io::duplex(64 * 1024);
    let mut far = tls.accept(far, Alpn::Farcall);
    let client = trusting(&authority);
    // It passes everything on until the handshake is done.
    let ends = async {
        let connecting = async {
            let mut near = client.connect(near, "127.0.0.1", Alpn::Farcall).await.unwrap();
            near.write_all(b"!").await.unwrap();
            near
        };
        let (near, byte) = tokio::join!(connecting, far.read_u8());
        assert_eq!(byte.unwrap(), b'!');
        (near, far)
    };
    let passing = tokio::io::copy_bidirectional(&mut proxy_near, &mut proxy_far);
    let (mut near, mut far) = tokio::select! {
        ends = ends => ends,
        passed = passing => panic!("{passed:?}"),
    };
    near.write_all(b"pay 1 to bob").await.unwrap();
    let mut record = vec![0; 1024];
    let read = proxy_near.read(&mut record).await.unwrap();
    record[read - 1] ^= 1;
    proxy_far.write_all(&record[..read]).await.unwrap();
    assert!(matches!(tls_error(far.read_u8().await), TlsErrorKind::Other { .. }));
}
