//! WebSockets over a pipe in memory: two ends of ours, and peers that do what they may not.

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

const MAX_MESSAGE: usize = 100_000;

fn ends() -> (Stream, Stream) {
    let (near, far) = tokio::io::duplex(1000);
    (client(Stream::new(near)), serve_websocket(Stream::new(far), MAX_MESSAGE))
}

/// The server's end, and a client that may send whatever messages it likes.
async fn server_and_peer() -> (Stream, WebSocketStream<DuplexStream>) {
    let (near, far) = tokio::io::duplex(1_000_000);
    let peer = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    (serve_websocket(Stream::new(far), MAX_MESSAGE), peer)
}

#[tokio::test]
async fn bytes_keep_their_order_both_ways_through_a_small_buffer() {
    let (mut client, mut server) = ends();
    let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let echo = tokio::spawn(async move {
        let mut received = vec![0; 300_000];
        server.read_exact(&mut received).await.unwrap();
        server.write_all(&received).await.unwrap();
        server.shutdown().await.unwrap();
        // Waits for the client's Close.
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    });
    client.write_all(&sent).await.unwrap();
    client.flush().await.unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
    drop(client);
    echo.await.unwrap();
}

#[tokio::test]
async fn client_still_receives_after_its_shutdown() {
    let (mut client, mut server) = ends();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut received = [0; 8];
    server.read_exact(&mut received).await.unwrap();
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test]
async fn many_slices_leave_in_one_message() {
    let (mut server, mut peer) = server_and_peer().await;
    assert!(server.is_write_vectored());
    let slices = [IoSlice::new(b"one "), IoSlice::new(b"message")];
    assert_eq!(server.write_vectored(&slices).await.unwrap(), 11);
    server.flush().await.unwrap();
    assert_eq!(peer.next().await.unwrap().unwrap(), Message::Binary("one message".into()));
}

#[tokio::test]
async fn stream_without_a_close_is_truncated() {
    let (near, far) = tokio::io::duplex(1000);
    let mut client = client(Stream::new(near));
    drop(far);
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// Returns the refusal that a peer gets that sends this, and the error of reading then.
async fn refused(message: Message) -> (CloseCode, String) {
    let (mut server, mut peer) = server_and_peer().await;
    peer.send(message).await.unwrap();
    let reading = tokio::spawn(async move { server.read(&mut [0]).await.unwrap_err().to_string() });
    let Message::Close(Some(frame)) = peer.next().await.unwrap().unwrap() else { panic!("no Close") };
    drop(peer);
    (frame.code, reading.await.unwrap())
}

#[tokio::test]
async fn text_message_is_closed_with_1003() {
    let (code, error) = refused(Message::text("hello")).await;
    assert_eq!(u16::from(code), 1003);
    assert!(error.contains("text message"), "{error}");
}

#[tokio::test]
async fn message_over_the_limit_is_closed_with_1009() {
    let (code, error) = refused(Message::Binary(vec![0; MAX_MESSAGE + 1].into())).await;
    assert_eq!(u16::from(code), 1009);
    assert!(error.contains("larger than is allowed"), "{error}");
}

#[tokio::test]
async fn largest_and_empty_messages_are_read() {
    let (mut server, mut peer) = server_and_peer().await;
    for len in [0, MAX_MESSAGE, 0] {
        peer.send(Message::Binary(vec![7; len].into())).await.unwrap();
    }
    peer.close(None).await.unwrap();
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), MAX_MESSAGE);
}

#[tokio::test]
async fn ping_is_answered_while_reading() {
    let (mut server, mut peer) = server_and_peer().await;
    peer.send(Message::Ping("are you there".into())).await.unwrap();
    let reading = tokio::spawn(async move { server.read(&mut [0]).await });
    assert_eq!(peer.next().await.unwrap().unwrap(), Message::Pong("are you there".into()));
    reading.abort();
}

#[test]
fn the_accept_key_is_that_of_the_rfc() {
    assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}
