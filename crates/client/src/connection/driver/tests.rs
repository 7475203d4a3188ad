//! Tests of what the task of a connection holds, which no test over a stream sees.

use farcall_protocol::{Body, Codec, HeaderRef, MaxFrameBytes, Metadata, Negotiated};
use farcall_transport::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::request::EncodedRequest;
use super::*;

/// A driver, and the server's end of its stream.
fn driver() -> (Driver, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (options, address) = (ConnectionOptions::default(), Address::parse("tcp@10.0.0.3:7001").unwrap());
    let shared = Arc::new(Shared::new(Negotiated::new(Codec::default()), address, &options));
    (Driver::new(Stream::new(near), BytesMut::new(), shared, &options), far)
}

async fn turn(driver: &mut Driver) {
    // Until it waits for something: it lets others run in between.
    for _ in 0..8 {
        assert!(futures::poll!(Pin::new(&mut *driver)).is_pending());
    }
}

/// Makes a call, and has the server answer it: with a usual reply, which is completed in the read buffer, or with metadata.
async fn call(driver: &mut Driver, far: &mut DuplexStream, is_usual: bool) {
    let shared = Arc::clone(&driver.shared);
    let body = Body::default();
    let request = EncodedRequest::new("A.a", &body, None, Flags::NONE, None, &shared.negotiated).unwrap();
    let (seq, _) = shared.enqueue(&request, None).unwrap();
    turn(driver).await;
    assert!(far.read(&mut [0; 1000]).await.unwrap() > 0);
    let mut answer = Outbox::new();
    let mut metadata = Metadata::new();
    metadata.insert("load", "1").unwrap();
    let metadata = (!is_usual).then_some(&metadata);
    let header = HeaderRef { metadata, ..HeaderRef::new(Kind::Response, seq) };
    answer.push(&Codec::default(), &header, &body, MaxFrameBytes::DEFAULT).unwrap();
    far.write_all_buf(&mut answer).await.unwrap();
    turn(driver).await;
    assert!(shared.poll(seq, Waker::noop()).is_ready());
}

#[tokio::test(start_paused = true)]
async fn idle_connection_releases_its_buffer_soon() {
    let (mut driver, mut far) = driver();
    turn(&mut driver).await;
    for _ in 0..3 {
        for is_usual in [true, false, true, true, false] {
            call(&mut driver, &mut far, is_usual).await;
            assert!(driver.input.held_bytes() > 0 && (is_usual || driver.replies.capacity() > 0));
            tokio::time::advance(RELEASE_AFTER / 2).await;
        }
        // Two checks, the first of which may have come just after the last call.
        for _ in 0..2 {
            tokio::time::advance(RELEASE_AFTER).await;
            turn(&mut driver).await;
        }
        assert_eq!((driver.input.held_bytes(), driver.replies.capacity()), (0, 0));
        // Nothing is due before the ping after 10 s.
        tokio::time::advance(Duration::from_secs(7)).await;
        turn(&mut driver).await;
        assert_eq!(driver.input.held_bytes(), 0, "there is nothing to read");
    }
}
