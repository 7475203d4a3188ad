//! [`BodyLines`]: the lines of a request's body, read one by one within limits of size, time and memory.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use bytes::BytesMut;
use farcall_protocol::{Code, Status};
use farcall_transport::PeerKey;
use farcall_web::HeldBytes;
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout_at};

use super::body::{BodyLimits, Received, next};
use super::failure::Failure;

/// The lines of a body.
#[derive(Debug)]
pub(super) struct BodyLines {
    body: Body,
    peer: PeerKey,
    limits: BodyLimits,
    /// The bytes that have arrived and were not taken: at most a line, and what came together with its end.
    buffer: BytesMut,
    /// The bytes of `buffer` in which there is no end of a line.
    scanned: usize,
    /// The memory of `buffer`, of which each line takes its part.
    held: HeldBytes,
    /// The lines that were taken.
    taken: u64,
    ended: bool,
}

impl BodyLines {
    /// Begins to read a body of `peer`.
    pub(super) fn new(body: Body, limits: BodyLimits, peer: PeerKey) -> Self {
        let held = limits.hold(peer);
        Self { body, peer, limits, buffer: BytesMut::new(), scanned: 0, held, taken: 0, ended: false }
    }

    /// Returns the next line without its end, which may have `max` bytes; `None` at the end of the body. From its first
    /// byte on, a line has the time of a body; the first line, from the call on.
    ///
    /// # Errors
    ///
    /// The line is too large or too slow, the body was cut off, or there is no memory for it. The response says at which
    /// line.
    pub(super) async fn next(&mut self, max: usize) -> Result<Option<Received>, Failure> {
        let mut deadline = None;
        loop {
            let end = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n');
            let len = end.map_or(self.buffer.len(), |end| self.scanned + end);
            if len > max {
                return Err(self.too_large(max));
            }
            if end.is_some() || self.ended {
                let len = end.map_or(len, |_| len + 1);
                return Ok((len > 0).then(|| self.take(len)));
            }
            self.scanned = len;
            if deadline.is_none() && (len > 0 || self.taken == 0) {
                deadline = self.limits.timeout().and_then(|limit| Instant::now().checked_add(limit));
            }
            let reading = next(&mut self.body);
            let read = match deadline {
                None => reading.await,
                Some(deadline) => match timeout_at(deadline, reading).await {
                    Ok(read) => read,
                    Err(_elapsed) => return Err(self.too_slow()),
                },
            };
            match read {
                None => self.ended = true,
                Some(Ok(data)) => self.push(&data)?,
                Some(Err(error)) => {
                    let message = format!("the body was cut off in line {}: {error}", self.taken + 1);
                    return Err(Failure::invalid(message));
                }
            }
        }
    }

    /// Checks that the line that was taken last is JSON. Its types are left to the method.
    ///
    /// # Errors
    ///
    /// The text is not of that form: the error has line and column.
    pub(super) async fn check(&mut self, line: &Bytes, what: &'static str) -> Result<(), Failure> {
        let number = self.taken;
        self.limits.check(line, self.peer, move |line| check_line(line, number, what)).await
    }

    /// Returns the number of the line that was taken last, from 1.
    pub(super) const fn number(&self) -> u64 {
        self.taken
    }

    /// Discards what is left, up to limits of size and time, so that the client reads the response.
    pub(super) async fn discard(mut self) {
        self.buffer = BytesMut::new();
        // Less is always held.
        let _ = self.held.resize(0);
        if !self.ended {
            self.limits.discard_rest(&mut self.body, self.peer).await;
        }
    }

    /// Returns what was not read of the body; `None` if that is nothing.
    pub(super) fn into_rest(self) -> Option<Body> {
        (!self.ended).then_some(self.body)
    }

    /// Appends bytes that have arrived.
    fn push(&mut self, data: &[u8]) -> Result<(), Failure> {
        let needed = self.buffer.len() + data.len();
        if needed > self.buffer.capacity() {
            // Twice as large, or each piece of a long line would copy all before it.
            let capacity = if self.buffer.is_empty() { needed } else { needed.next_power_of_two() };
            self.limits.resize(&mut self.held, capacity)?;
            let mut larger = BytesMut::with_capacity(capacity);
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// Takes a line of `len` bytes with its end.
    fn take(&mut self, len: usize) -> Received {
        self.taken += 1;
        self.scanned = 0;
        let held = self.held.split(len);
        let line = self.buffer.split_to(len).freeze();
        if self.buffer.is_empty() {
            // Its room would wait with the next line, which may be a long time.
            self.buffer = BytesMut::new();
            // Less is always held.
            let _ = self.held.resize(0);
        }
        let end = line.trim_ascii_end().len();
        Received { bytes: line.slice(..end), held: Some(held) }
    }

    fn too_large(&self, max: usize) -> Failure {
        let message = format!("line {} of the body is over the limit of {max} bytes", self.taken + 1);
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, Status::refused(Code::ResourceExhausted, message))
    }

    fn too_slow(&self) -> Failure {
        let (number, limit) = (self.taken + 1, self.limits.timeout().unwrap_or_default());
        let message = format!("line {number} of the body was not complete within {limit:?}");
        Failure::new(StatusCode::REQUEST_TIMEOUT, Status::refused(Code::DeadlineExceeded, message))
    }
}

/// Checks that a line is JSON.
fn check_line(line: &[u8], number: u64, what: &str) -> Result<(), Failure> {
    serde_json::from_slice::<IgnoredAny>(line).map(drop).map_err(|error| {
        let text = error.to_string();
        let reason = text.rsplit_once(" at line ").map_or(&*text, |(reason, _place)| reason);
        let column = error.column();
        Failure::invalid(format!("line {number} of the body, column {column}: {reason}; {what} is expected"))
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use farcall_server::Server;
    use farcall_transport::PeerAddress;
    use futures::{FutureExt as _, StreamExt as _, stream};
    use tokio::time::sleep;

    use super::*;
    use crate::gateway::Gateway;

    fn limits(buffered_bytes: usize) -> BodyLimits {
        let server = Server::builder().build().unwrap().handle();
        BodyLimits::new(server, &Gateway::default().buffered_bytes(buffered_bytes))
    }

    fn lines(text: &'static str) -> BodyLines {
        BodyLines::new(Body::from(text), limits(64), PeerAddress::Memory.key())
    }

    #[tokio::test]
    async fn lines_are_taken_one_by_one_with_either_end_and_without_the_last() {
        let mut lines = lines("{}\n1\r\n\n\"a\"");
        let mut all = Vec::new();
        while let Some(line) = lines.next(10).await.unwrap() {
            all.push((lines.number(), line.bytes));
        }
        let expected = [(1, "{}"), (2, "1"), (3, ""), (4, "\"a\"")];
        assert_eq!(all, expected.map(|(number, line)| (number, Bytes::from(line))));
    }

    #[tokio::test]
    async fn line_over_the_limit_is_refused_by_number() {
        let mut lines = lines("{}\n12345\n");
        assert!(lines.next(4).await.unwrap().is_some());
        let failure = format!("{:?}", lines.next(4).await.unwrap_err());
        assert!(failure.contains("line 2 of the body is over the limit of 4 bytes"), "{failure}");
    }

    #[tokio::test]
    async fn memory_is_held_until_a_line_is_dropped() {
        const KIB: usize = 1024;
        let limits = limits(200 * KIB);
        let peer = PeerAddress::Memory.key();
        let text = format!("{}\n{}\n", "1".repeat(60 * KIB - 1), "2".repeat(20 * KIB - 1));
        let mut lines = BodyLines::new(Body::from(text), limits.clone(), peer);
        let has_room = |kib: usize| limits.hold(peer).resize(kib * KIB);
        let first = lines.next(60 * KIB).await.unwrap().unwrap();
        // One peer has half of it.
        assert!(has_room(20) && !has_room(21));
        drop(first);
        assert!(has_room(80) && !has_room(81));
        drop(lines);
        assert!(has_room(100));
    }

    #[tokio::test]
    async fn buffer_counts_as_it_grows_and_not_between_lines() {
        const KIB: usize = 1024;
        let limits = limits(200 * KIB);
        let peer = PeerAddress::Memory.key();
        let piece = |text: &str, kib: usize| Ok::<_, Infallible>(text.repeat(kib * KIB));
        let first = Ok(format!("{}\n", "1".repeat(40 * KIB)));
        let pieces = stream::iter([first, piece("2", 20), piece("2", 20)]).chain(stream::pending());
        let mut lines = BodyLines::new(Body::from_stream(pieces), limits.clone(), peer);
        let has_room = |kib: usize| limits.hold(peer).resize(kib * KIB);
        drop(lines.next(60 * KIB).await.unwrap());
        assert!(has_room(100), "nothing waits");
        assert!(lines.next(60 * KIB).now_or_never().is_none(), "the line has no end yet");
        // A buffer of 64 KiB, for 40 KiB that have come in two pieces.
        assert!(has_room(36) && !has_room(37));
    }

    #[tokio::test(start_paused = true)]
    async fn rest_that_never_ends_is_discarded_for_a_while_and_of_one_body_of_a_peer() {
        let limits = limits(64);
        let endless = || {
            let pieces = stream::iter([Ok::<_, Infallible>("1\n")]).chain(stream::pending());
            BodyLines::new(Body::from_stream(pieces), limits.clone(), PeerAddress::Memory.key())
        };
        let began = Instant::now();
        tokio::join!(
            async {
                endless().discard().await;
                assert_eq!(began.elapsed(), Duration::from_secs(2));
            },
            async {
                endless().discard().await;
                assert_eq!(began.elapsed(), Duration::ZERO);
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn line_has_its_time_from_its_first_byte_and_the_first_one_from_the_call() {
        let limits = limits(64);
        let limit = limits.timeout().unwrap();
        let almost = limit - Duration::from_millis(1);
        let lines = |pieces: Vec<(Duration, &'static str)>| {
            let pieces = stream::iter(pieces).then(async |(pause, text)| {
                sleep(pause).await;
                Ok::<_, Infallible>(text)
            });
            BodyLines::new(Body::from_stream(pieces), limits.clone(), PeerAddress::Memory.key())
        };
        let assert_too_slow = |read: Result<Option<Received>, Failure>, number: u64| {
            let failure = format!("{:?}", read.unwrap_err());
            let expected = format!("line {number} of the body was not complete within");
            assert!(failure.contains(&expected), "{failure}");
        };
        let began = Instant::now();
        assert_too_slow(lines(vec![(2 * limit, "1\n")]).next(10).await, 1);
        assert_eq!(began.elapsed(), limit);

        let pieces = vec![
            (almost, "1\n"),
            (9 * limit, "2"),
            (almost, "\n3"),
            (almost, "3"),
            (almost, "3"),
            (limit, "\n"),
        ];
        let (mut lines, began) = (lines(pieces), Instant::now());
        for expected in ["1", "2"] {
            assert_eq!(lines.next(10).await.unwrap().unwrap().bytes, expected);
        }
        assert_too_slow(lines.next(10).await, 3);
        assert_eq!(began.elapsed(), 2 * almost + 10 * limit);
    }

    #[tokio::test]
    async fn rest_is_what_was_not_read() {
        let pieces = stream::iter([Ok::<_, Infallible>("1\n"), Ok("2\n")]);
        let mut lines = BodyLines::new(Body::from_stream(pieces), limits(64), PeerAddress::Memory.key());
        assert_eq!(lines.next(10).await.unwrap().unwrap().bytes, "1");
        let mut rest = lines.into_rest().unwrap();
        assert_eq!(next(&mut rest).await.unwrap().unwrap(), "2\n");
        let mut lines = self::lines("1\n");
        while lines.next(10).await.unwrap().is_some() {}
        assert!(lines.into_rest().is_none());
    }

    #[test]
    fn mistake_is_told_with_its_line_and_column() {
        assert!(check_line(b"[1, \"x\"]", 3, "an item").is_ok());
        let failure = format!("{:?}", check_line(b"{\"a\": }", 3, "an item").unwrap_err());
        assert!(failure.contains("line 3 of the body, column 7: expected value; an item"), "{failure}");
    }
}
