//! [`sniff`]: detects the protocol of a client on a port that serves calls both with and without HTTP.
//!
//! Bytes are read and put back; serving either protocol is left to others.

use std::io;

use farcall_transport::Stream;
use tokio::io::AsyncReadExt;

/// The size of the first read, in bytes: enough for the Option of most clients, which then needs no
/// second read.
const FIRST_READ: usize = 512;

/// The protocol that a client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detected {
    /// Calls without HTTP.
    Calls,
    /// HTTP, or garbage that HTTP answers with 400.
    Http,
}

/// Waits for the first bytes of a client, inside TLS if there is TLS. Returns `None` if the client closed
/// the connection without sending any. There is no time limit here.
///
/// # Errors
///
/// Reading failed, or the TLS handshake did.
pub(crate) async fn sniff(mut stream: Stream) -> io::Result<Option<(Detected, Stream)>> {
    let mut received = Vec::with_capacity(FIRST_READ);
    stream.read_buf(&mut received).await?;
    let Some(&first) = received.first() else { return Ok(None) };
    let alpn = stream.tls().and_then(|tls| tls.alpn.as_deref());
    let detected = detect(alpn, first);
    Ok(Some((detected, stream.with_prefix(received))))
}

/// Detects the protocol by ALPN, or else by the first byte: calls begin with an Option, whose length is
/// at most 4 KiB and so begins with a zero byte, and no HTTP request begins with one.
fn detect(alpn: Option<&str>, first: u8) -> Detected {
    match (alpn, first) {
        (Some("farcall/1"), _) | (None, 0) => Detected::Calls,
        _ => Detected::Http,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn alpn_decides_and_else_the_first_byte() {
        for (alpn, first, expected) in [
            (None, 0, Detected::Calls),
            (None, b'G', Detected::Http),
            (None, b'\r', Detected::Http),
            (None, 0x16, Detected::Http),
            (None, 0xff, Detected::Http),
            (Some("farcall/1"), b'G', Detected::Calls),
            (Some("http/1.1"), 0, Detected::Http),
        ] {
            assert_eq!(detect(alpn, first), expected, "{alpn:?} {first}");
        }
    }

    #[tokio::test]
    async fn no_byte_is_lost_however_they_are_split() {
        for (text, expected) in
            [(&b"\0\0\0\x02{}"[..], Detected::Calls), (b"GET / HTTP/1.1\r\n\r\n", Detected::Http)]
        {
            for piece in [1, 2, text.len()] {
                // A pipe that holds one piece, so that each is a separate read.
                let (near, mut far) = tokio::io::duplex(piece);
                let writing = async move {
                    far.write_all(text).await.unwrap();
                    drop(far);
                };
                let reading = async {
                    let (detected, mut stream) = sniff(Stream::new(near)).await.unwrap().unwrap();
                    let mut received = Vec::new();
                    stream.read_to_end(&mut received).await.unwrap();
                    (detected, received)
                };
                let ((), (detected, received)) = tokio::join!(writing, reading);
                assert_eq!((detected, received.as_slice()), (expected, text));
            }
        }
    }

    #[tokio::test]
    async fn client_that_closes_at_once_is_not_detected() {
        let (near, far) = tokio::io::duplex(16);
        drop(far);
        assert!(sniff(Stream::new(near)).await.unwrap().is_none());
    }
}
