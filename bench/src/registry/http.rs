//! As much of HTTP/1.1 as the load needs: a request's bytes, and a connection that blocks.
//!
//! A client from a crate would cost more than the registry that is measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// Longer than the headers of any answer, and than the body of any error.
const BUFFER: usize = 64 * 1024;
/// A registry that is silent for longer ends the measurement.
const SILENCE: Duration = Duration::from_secs(60);

/// A request, ready to be sent.
pub(super) fn request(host: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// A connection that is kept.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The parts of an answer that are needed.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) rev: u64,
    pub(super) etag: Option<String>,
    /// The length of its body.
    pub(super) len: usize,
}

impl Connection {
    pub(super) fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Self { stream, buffer: vec![0; BUFFER] })
    }

    /// Sends a request and reads the whole answer. An answer that is an error is one.
    pub(super) fn call(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.stream.write_all(request)?;
        let (head, mut filled) = self.read_head()?;
        let answer = parse_head(&self.buffer[..head])?;
        ensure!(filled <= head + answer.len, "the answer has {} bytes too many", filled - head - answer.len);
        let mut left = head + answer.len - filled;
        if answer.status >= 400 {
            self.stream.read_exact(&mut self.buffer[filled..filled + left])?;
            filled += left;
            bail!("answered {}: {}", answer.status, String::from_utf8_lossy(&self.buffer[head..filled]));
        }
        while left > 0 {
            let room = left.min(BUFFER);
            let read = self.stream.read(&mut self.buffer[..room])?;
            ensure!(read > 0, "the connection was closed within an answer");
            left -= read;
        }
        Ok(answer)
    }

    /// The length of the headers, and how much is in the buffer.
    fn read_head(&mut self) -> anyhow::Result<(usize, usize)> {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).context("waiting for an answer")?;
            ensure!(read > 0, "the connection was closed, or the headers are longer than {BUFFER} bytes");
            filled += read;
            let end = self.buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                return Ok((end + 4, filled));
            }
        }
    }
}

fn parse_head(head: &[u8]) -> anyhow::Result<Answer> {
    let mut lines = str::from_utf8(head).context("headers")?.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    let mut answer = Answer { status, rev: 0, etag: None, len: 0 };
    let mut has_len = matches!(status, 204 | 304);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") && !has_len {
            answer.len = value.parse()?;
            has_len = true;
        } else if name.eq_ignore_ascii_case("x-farcall-rev") {
            answer.rev = value.parse()?;
        } else if name.eq_ignore_ascii_case("etag") {
            answer.etag = Some(value.to_owned());
        }
    }
    ensure!(has_len, "the answer has no Content-Length");
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_whatever_their_case() {
        let answer = parse_head(
            b"HTTP/1.1 200 OK\r\nX-Farcall-Rev: 12\r\ncontent-length: 3\r\nETag: \"e-12\"\r\n\r\n",
        );
        let Answer { status, rev, etag, len } = answer.unwrap();
        assert_eq!((status, rev, etag.as_deref(), len), (200, 12, Some("\"e-12\""), 3));
    }

    #[test]
    fn only_an_answer_without_a_body_needs_no_length() {
        assert_eq!(parse_head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().len, 0);
        assert_eq!(parse_head(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 500\r\n\r\n").unwrap().len, 0);
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
