//! WebSockets over a pipe in memory: two ends of ours, and peers that do what they may not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Wake, Waker};

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, Role as OtherRole};

use super::*;

const MAX_MESSAGE: usize = 100_000;

fn ends() -> (Stream, Stream) {
    let (near, far) = duplex(1000);
    (client(Stream::new(near)), serve_websocket(Stream::new(far), MAX_MESSAGE))
}

/// The server's end, and a client that may send whatever messages it likes.
async fn server_and_peer() -> (Stream, WebSocketStream<DuplexStream>) {
    let (near, far) = duplex(1_000_000);
    let peer = WebSocketStream::from_raw_socket(near, OtherRole::Client, None).await;
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
    let (near, far) = duplex(1000);
    let mut client = client(Stream::new(near));
    drop(far);
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// Returns the refusal that a peer gets that sends this, and the error of reading then. The peer sees the end of the
/// stream behind the Close, before it has answered.
async fn refused(message: Message) -> (CloseCode, String) {
    let (mut server, mut peer) = server_and_peer().await;
    peer.send(message).await.unwrap();
    let reading = tokio::spawn(async move { server.read(&mut [0]).await.unwrap_err().to_string() });
    let Message::Close(Some(frame)) = peer.next().await.unwrap().unwrap() else { panic!("no Close") };
    // Its answer to the Close, and then the end: the server has closed its half.
    assert!(peer.next().await.is_none());
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
    // What a server answers, and what a client wants.
    for accept in [websocket_accept, accept_key] {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}

/// A frame of a client with the mask 0.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// The server's end of a stream in which these bytes have come, and the peer's end of it.
async fn received(bytes: &[u8]) -> (Stream, DuplexStream) {
    let (mut near, far) = duplex(1_000_000);
    near.write_all(bytes).await.unwrap();
    (serve_websocket(Stream::new(far), MAX_MESSAGE), near)
}

#[tokio::test(start_paused = true)]
async fn refused_peer_that_answers_ends_the_stream_at_once() {
    for (first, payload, status) in [
        (0x81, &b"text"[..], 1003),
        (0x83, b"", 1002),
        (0x80, b"", 1002),
        (0x88, &[3, 0xed], 1002),
        (0x88, &[3], 1002),
    ] {
        let (mut server, mut peer) = received(&frame(first, payload)).await;
        let began = Instant::now();
        let reading = tokio::spawn(async move { server.read(&mut [0]).await.unwrap_err() });
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        assert_eq!((answer[0], u16::from_be_bytes([answer[2], answer[3]])), (0x88, status));
        peer.write_all(&frame(0x88, &answer[2..4])).await.unwrap();
        peer.shutdown().await.unwrap();
        assert_eq!(reading.await.unwrap().kind(), io::ErrorKind::InvalidData);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn each_violation_is_refused_with_its_reason() {
    let begun = frame(0x02, b"a");
    let within = |frame: Vec<u8>| [&begun[..], &frame].concat();
    let many = [&[0x89, 0xfe, 0, 126, 0, 0, 0, 0][..], &[0; 126]].concat();
    for (bytes, reason) in [
        (frame(0x80, b""), "a continuation follows no message"),
        (within(frame(0x82, b"")), "a message begins within another"),
        (within(frame(0x81, b"")), "a message begins within another"),
        (vec![0x82, 0], "frames of clients are masked, those of servers are not"),
        (frame(0xc2, b""), "a frame uses an extension that was not agreed on"),
        (frame(0xa2, b""), "a frame uses an extension that was not agreed on"),
        (frame(0x92, b""), "a frame uses an extension that was not agreed on"),
        (frame(0x83, b""), "a frame has an unknown opcode"),
        (frame(0x8b, b""), "a frame has an unknown opcode"),
        (frame(0x09, b""), "a control frame is fragmented or over 125 bytes"),
        (many, "a control frame is fragmented or over 125 bytes"),
    ] {
        let (mut server, mut peer) = received(&bytes).await;
        let mut data = Vec::new();
        let reading = tokio::spawn(async move { server.read_to_end(&mut data).await.unwrap_err() });
        let mut close = Vec::new();
        peer.read_to_end(&mut close).await.unwrap();
        assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, PROTOCOL_ERROR));
        assert_eq!(std::str::from_utf8(&close[4..]), Ok(reason));
        drop(peer);
        let error = reading.await.unwrap().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn refused_peer_that_goes_on_is_left_in_time() {
    // With no room for the Close as well.
    for room in [1, 1_000_000] {
        let (near, far) = duplex(room);
        let (mut reading, mut writing) = tokio::io::split(near);
        let mut server = serve_websocket(Stream::new(far), MAX_MESSAGE);
        let flood = tokio::spawn(async move {
            while writing.write_all(&frame(0x81, b"text")).await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        let began = Instant::now();
        assert!(timeout(10 * LINGER, server.read(&mut [0])).await.unwrap().is_err());
        assert!(began.elapsed() <= 2 * LINGER);
        drop(server);
        if room > 1 {
            let mut close = [0; 4];
            reading.read_exact(&mut close).await.unwrap();
            assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1003));
        }
        drop(reading);
        flood.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn close_of_the_server_that_is_answered_ends_the_stream_at_once() {
    let (mut server, mut peer) = server_and_peer().await;
    let began = Instant::now();
    server.shutdown().await.unwrap();
    // The peer answers, and leaves closing to the server.
    assert!(matches!(peer.next().await, Some(Ok(Message::Close(_)))));
    peer.flush().await.unwrap();
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    server.flush().await.unwrap();
    drop(server);
    assert!(peer.next().await.is_none());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn close_of_the_peer_is_answered_with_its_status() {
    for payload in [&[][..], &[0x0f, 0xa1], b"\x03\xe8bye"] {
        let (mut server, mut peer) = received(&frame(0x88, payload)).await;
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        // No answer to what it asked can be sent any more.
        assert_eq!(server.flush().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        drop(server);
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer[2..], payload[..payload.len().min(2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn client_does_not_wait_for_a_server_that_it_refuses() {
    for bytes in [&[0x81, 2, b'h', b'i'][..], &[0x82, 0x80, 0, 0, 0, 0], &[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0]]
    {
        let (mut near, far) = duplex(1000);
        near.write_all(bytes).await.unwrap();
        let mut client = client(Stream::new(far));
        let began = Instant::now();
        assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(client);
        let mut close = Vec::new();
        near.read_to_end(&mut close).await.unwrap();
        assert_eq!((close[0], close[1] & 0x80), (0x88, 0x80), "it is masked");
    }
}

#[tokio::test(start_paused = true)]
async fn data_before_a_violation_is_read() {
    let (mut server, _peer) = received(&[frame(0x82, b"whole"), frame(0x81, b"text")].concat()).await;
    let mut data = [0; 5];
    server.read_exact(&mut data).await.unwrap();
    assert_eq!(&data, b"whole");
    assert!(timeout(2 * LINGER, server.read(&mut [0])).await.unwrap().is_err());
}

#[tokio::test]
async fn incomplete_messages_are_read_as_they_come() {
    let head = [&[0x82, 0xff][..], &90_000_u64.to_be_bytes(), &[1, 2, 3, 4]].concat();
    let (mut server, mut peer) = received(&[&head[..], &[0; 70_000]].concat()).await;
    let mut data = vec![0; 70_000];
    server.read_exact(&mut data).await.unwrap();
    assert!(data.chunks(4).all(|chunk| chunk == [1, 2, 3, 4]));
    peer.write_all(&[0; 1]).await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), 1);
}

struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_without_data_let_other_tasks_run() {
    // A continuation of every kind that never brings data.
    let continuations = [frame(0x02, b""), frame(0x00, b"").repeat(20_000)].concat();
    for bytes in [frame(0x82, b"").repeat(20_000), frame(0x8a, b"1234").repeat(20_000), continuations] {
        let (mut server, _peer) = received(&bytes).await;
        let wakes = Arc::new(CountWakes(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut data = [0; 65_536];
        let mut buf = ReadBuf::new(&mut data);
        // Only a few reads are done, though much more has come.
        let mut cx = Context::from_waker(&waker);
        let polled = Pin::new(&mut server).poll_read(&mut cx, &mut buf);
        assert!(polled.is_pending() && wakes.0.load(SeqCst) > 0);
        // In the end, it is too much.
        assert!(timeout(2 * LINGER, server.read(&mut [0; 4096])).await.unwrap().is_err());
    }
}

#[tokio::test]
async fn pings_that_came_together_are_answered_by_one_pong() {
    let pings: Vec<u8> = (0..100).flat_map(|n| frame(0x89, &[n])).collect();
    let (mut server, mut peer) = received(&[pings, frame(0x82, b"x")].concat()).await;
    // Read at once: a buffer for one byte takes one byte of a frame.
    assert_eq!(server.read(&mut [0; 4096]).await.unwrap(), 1);
    drop(server);
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [0x8a, 1, 99]);
}

#[tokio::test(start_paused = true)]
async fn peer_that_reads_nothing_gets_one_pong_in_memory() {
    let (mut near, far) = duplex(1);
    let mut server = WebSocket::new(Stream::new(far), Role::Server, 1000);
    let reading = async {
        let _ = timeout(Duration::from_millis(50), server.read(&mut [0])).await;
    };
    let writing = async {
        let _ = near.write_all(&frame(0x89, &[7; 100]).repeat(50)).await;
    };
    tokio::join!(reading, timeout(Duration::from_millis(40), writing)).1.ok();
    assert!(server.output.len() <= 2 * 127, "{} bytes", server.output.len());
}
