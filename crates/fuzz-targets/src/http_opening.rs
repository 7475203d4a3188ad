//! Connections that are opened over HTTP: the answers of servers and proxies, and the frames of WebSockets.

use std::time::Duration;

use farcall_transport::{Address, Proxy, Stream, serve_websocket, websocket_accept};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use crate::input::Input;
use crate::pipes::{PIPE_BYTES, Pipes, in_paused_time, read_some, write};

/// The text in an input that stands for the value of `Sec-WebSocket-Accept`.
const ACCEPT: &[u8] = b"$A";
/// The largest message of a WebSocket, in bytes.
const MAX_MESSAGE: usize = 16 * 1024;

/// A server's or a proxy's answer, in pieces: dialing ends, and the stream that it gives does.
pub(crate) fn http_opening(data: &[u8]) {
    in_paused_time(async {
        let mut input = Input::new(data);
        let (scheme, proxied) = (input.choose(&["http", "connect", "ws"]), input.byte().is_multiple_of(4));
        let piece = 1 + usize::from(input.byte());
        let answer = input.rest();
        let (mut dialer, mut accepted) = Pipes::dialer();
        if proxied {
            dialer = dialer.proxy(Proxy::parse("http://user:secret@proxy.example:3128").unwrap()).unwrap();
        }
        let address = Address::parse(&format!("{scheme}@server.example:80")).unwrap();
        let answering = async {
            while let Some(far) = accepted.recv().await {
                answer_in_pieces(far, answer, piece).await;
            }
        };
        let dialing = async {
            match dialer.dial(&address).await {
                Ok(mut stream) => {
                    let _ = stream.write_all(b"request").await;
                    let _ = timeout(Duration::from_secs(1), stream.read_to_end(&mut Vec::new())).await;
                    let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
                }
                Err(error) => drop(error.to_string()),
            }
            drop(dialer);
        };
        let both = async { tokio::join!(dialing, answering) };
        timeout(Duration::from_secs(300), both).await.expect("dialing ends");
    });
}

async fn answer_in_pieces(mut stream: DuplexStream, answer: &[u8], piece: usize) {
    let request = read_some(&mut stream).await;
    let request = String::from_utf8_lossy(&request);
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let accept = websocket_accept(key.unwrap_or_default().as_bytes());
    let answer = replace(answer, accept.as_bytes());
    for piece in answer.chunks(piece) {
        write(&mut stream, piece).await;
        tokio::task::yield_now().await;
    }
    // A client that says goodbye is read.
    let _ = read_some(&mut stream).await;
}

fn replace(text: &[u8], with: &[u8]) -> Vec<u8> {
    match text.windows(ACCEPT.len()).position(|window| window == ACCEPT) {
        Some(at) => [&text[..at], with, &text[at + ACCEPT.len()..]].concat(),
        None => text.to_vec(),
    }
}

/// The frames of a WebSocket's client.
pub(crate) fn websocket(data: &[u8]) {
    in_paused_time(async {
        let mut input = Input::new(data);
        let piece = 1 + usize::from(input.byte());
        let bytes = input.rest();
        let (near, mut far) = duplex(PIPE_BYTES);
        let serving = async {
            let mut stream = serve_websocket(Stream::new(near), MAX_MESSAGE);
            let mut received = Vec::new();
            let mut some = [0; 512];
            while let Ok(Ok(read @ 1..)) = timeout(Duration::from_secs(1), stream.read(&mut some)).await {
                received.extend_from_slice(&some[..read]);
                let _ = timeout(Duration::from_secs(1), stream.write_all(&some[..read])).await;
                let _ = timeout(Duration::from_secs(1), stream.flush()).await;
            }
            let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
            received
        };
        let sending = async {
            for piece in bytes.chunks(piece) {
                write(&mut far, piece).await;
                tokio::task::yield_now().await;
            }
            let _ = read_some(&mut far).await;
            drop(far);
        };
        let (received, ()) = timeout(Duration::from_secs(300), async { tokio::join!(serving, sending) })
            .await
            .expect("the stream ends");
        assert!(received.len() <= bytes.len(), "no byte comes from nowhere");
    });
}

pub(crate) fn opening_seeds() -> Vec<Vec<u8>> {
    let upgrade =
        |to: &str| format!("HTTP/1.1 101 Switching\r\nUpgrade: {to}\r\n\r\n\0\0\0\x02{{}}").into_bytes();
    let websocket = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: $A\r\n\r\n\x82\x03abc\x89\0\x88\x02\x03\xe8";
    let refusal = b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbusy\n\r\n0\r\n\r\n";
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest";
    vec![
        [&[0, 1, 255][..], &upgrade("farcall")].concat(),
        [&[0, 0, 9][..], interim, &upgrade("farcall")].concat(),
        [&[1, 1, 3][..], interim].concat(),
        [&[2, 1, 255][..], websocket].concat(),
        [&[0, 1, 255][..], refusal].concat(),
    ]
}

pub(crate) fn websocket_seeds() -> Vec<Vec<u8>> {
    let masked = |first: u8, body: &[u8]| [&[first, 0x80 | body.len() as u8, 0, 0, 0, 0][..], body].concat();
    let long = [&[0x82, 0xFE, 0, 200, 1, 2, 3, 4][..], &[7; 200]].concat();
    let frames =
        [masked(0x82, b"abc"), masked(0x02, b"d"), masked(0x89, b"p"), masked(0x80, b"e"), long].concat();
    let close = masked(0x88, &[3, 0xE8]);
    vec![[&[255][..], &frames, &close].concat(), [&[2][..], &frames].concat(), [&[0][..], &close].concat()]
}
