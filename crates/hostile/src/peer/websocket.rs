//! WebSocket by hand: the opening, and frames of any kind.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A frame that continues a message.
pub(crate) const CONTINUATION: u8 = 0;
/// A frame that begins a binary message.
pub(crate) const BINARY: u8 = 2;
/// The bit of a message's last frame.
pub(crate) const FINAL: u8 = 0x80;

/// Opens a WebSocket at the path for calls.
pub(crate) async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /_farcall_ HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if head.starts_with(b"HTTP/1.1 101") { Ok(stream) } else { Err(io::Error::other("no WebSocket")) }
}

/// Returns a client's frame, whose mask is zero. `first` is [`CONTINUATION`] or [`BINARY`], with or without [`FINAL`].
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len());
    frame.extend_from_slice(payload);
    frame
}

/// Returns the head of a frame with a payload of this length.
fn head(first: u8, length: usize) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    let mut head = vec![first];
    match length {
        0..126 => head.push(MASKED | length as u8),
        126..0x1_0000 => {
            head.push(MASKED | 126);
            head.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            head.push(MASKED | 127);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head.extend_from_slice(&[0; 4]);
    head
}

/// Reads one frame of a server, of less than 64 KiB, and returns its payload.
pub(crate) async fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let _first = stream.read_u8().await?;
    let length = match stream.read_u8().await? {
        length @ 0..126 => u64::from(length),
        126 => u64::from(stream.read_u16().await?),
        _ => return Err(io::Error::other("a frame that is too large")),
    };
    let mut payload = Vec::new();
    stream.take(length).read_to_end(&mut payload).await?;
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_has_three_forms() {
        assert_eq!(frame(FINAL | BINARY, b"ab"), [0x82, 0x82, 0, 0, 0, 0, b'a', b'b']);
        assert_eq!(head(CONTINUATION, 126)[..4], [0, 0xFE, 0, 126]);
        assert_eq!(head(CONTINUATION, 0x1_0000)[..10], [0, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
