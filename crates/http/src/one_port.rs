//! [`first_words`]: what a client speaks at a port where calls come with HTTP and without.
//!
//! Bytes are looked at, and put back; to serve either is for others.

use std::io;

use farcall_transport::Stream;
use tokio::io::AsyncReadExt;

/// How much is read at once, in bytes: enough for the Option of most clients, which then costs no
/// second read.
const FIRST_READ: usize = 512;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// Calls, with nothing around them.
    Calls,
    /// HTTP, or what HTTP answers with 400.
    Http,
}

/// Waits for the first bytes of a client, after TLS where there is TLS. Returns None where it has
/// closed without a word. There is no limit of time here.
///
/// # Errors
///
/// Reading failed, or the handshake of TLS did.
pub(crate) async fn first_words(mut stream: Stream) -> io::Result<Option<(Spoken, Stream)>> {
    let mut heard = Vec::with_capacity(FIRST_READ);
    stream.read_buf(&mut heard).await?;
    let Some(&first) = heard.first() else { return Ok(None) };
    let alpn = stream.tls().and_then(|tls| tls.alpn.as_deref());
    let spoken = spoken(alpn, first);
    Ok(Some((spoken, stream.with_prefix(heard))))
}

/// What was agreed on in TLS counts. Where nothing was, the first byte tells: calls begin with an
/// Option, whose length is at most 4 KiB and so begins with a zero byte, and no request begins
/// with one.
fn spoken(alpn: Option<&str>, first: u8) -> Spoken {
    match (alpn, first) {
        (Some("farcall/1"), _) | (None, 0) => Spoken::Calls,
        _ => Spoken::Http,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn what_was_agreed_on_counts_and_else_the_first_byte() {
        for (alpn, first, expected) in [
            (None, 0, Spoken::Calls),
            (None, b'G', Spoken::Http),
            (None, b'\r', Spoken::Http),
            (None, 0x16, Spoken::Http),
            (None, 0xff, Spoken::Http),
            (Some("farcall/1"), b'G', Spoken::Calls),
            (Some("http/1.1"), 0, Spoken::Http),
        ] {
            assert_eq!(spoken(alpn, first), expected, "{alpn:?} {first}");
        }
    }

    #[tokio::test]
    async fn no_byte_is_lost_however_they_come() {
        for (text, expected) in
            [(&b"\0\0\0\x02{}"[..], Spoken::Calls), (b"GET / HTTP/1.1\r\n\r\n", Spoken::Http)]
        {
            for piece in [1, 2, text.len()] {
                // A pipe that holds no more than a piece, so that each is a read of its own.
                let (near, mut far) = tokio::io::duplex(piece);
                let writing = async move {
                    far.write_all(text).await.unwrap();
                    drop(far);
                };
                let reading = async {
                    let (spoken, mut stream) = first_words(Stream::new(near)).await.unwrap().unwrap();
                    let mut heard = Vec::new();
                    stream.read_to_end(&mut heard).await.unwrap();
                    (spoken, heard)
                };
                let ((), (spoken, heard)) = tokio::join!(writing, reading);
                assert_eq!((spoken, heard.as_slice()), (expected, text));
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_closes_has_said_nothing() {
        let (near, far) = tokio::io::duplex(16);
        drop(far);
        assert!(first_words(Stream::new(near)).await.unwrap().is_none());
    }
}
