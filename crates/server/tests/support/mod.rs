//! A raw client that sends what a test tells it to, and a server for it.

#![allow(dead_code, unreachable_pub, reason = "no test file needs all of it")]
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farcall_protocol::{
    ClientOffer, Code, Codec, Execution, Flags, HandshakeError, Header, HeaderRef, Kind, MaxFrameBytes,
    Message, Negotiated, Seq, Status, next_option,
};
use farcall_server::{Limits, ServerBuilder, ServerHandle};
use farcall_test_support::frames::Frames;
use farcall_transport::{PeerAddress, Stream};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub use self::stage::*;
pub use farcall_test_support::frames::frame;

pub mod feed;
mod stage;

/// The capacity of the pipe between client and server, in bytes.
pub const PIPE: usize = 64 * 1024;
/// Longer than any intended wait.
pub const LONG: Duration = Duration::from_secs(3600);

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A client that speaks the protocol's encoding without following its rules.
pub struct Raw<S = DuplexStream> {
    pub frames: Frames<S>,
    pub negotiated: Negotiated,
    last: Seq,
}

impl Raw {
    pub async fn connect(handle: &ServerHandle) -> Self {
        Self::connect_with(handle, &ClientOffer::default()).await
    }

    pub async fn connect_with(handle: &ServerHandle, terms: &ClientOffer) -> Self {
        Self::try_connect(handle, terms).await.unwrap()
    }

    pub async fn try_connect(handle: &ServerHandle, terms: &ClientOffer) -> Result<Self, HandshakeError> {
        Self::shake(open(handle), terms).await
    }
}

/// Opens a connection; returns the client's end, before the handshake.
pub fn open(handle: &ServerHandle) -> DuplexStream {
    open_from(handle, PeerAddress::Memory)
}

pub fn open_from(handle: &ServerHandle, peer: PeerAddress) -> DuplexStream {
    let (near, far) = tokio::io::duplex(PIPE);
    handle.serve_stream(Stream::new(far), peer);
    near
}

/// Reads the server's Option; returns `None` if the server closes instead.
pub async fn read_option<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Vec<u8>> {
    let mut input = BytesMut::new();
    loop {
        if let Some(option) = next_option(&mut input).unwrap() {
            assert!(input.is_empty(), "nothing follows an Option");
            return Some(option.to_vec());
        }
        // Byte by byte: bytes after the Option must stay in the stream.
        let byte = stream.read_u8().await.ok()?;
        input.extend_from_slice(&[byte]);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub async fn shake(mut stream: S, terms: &ClientOffer) -> Result<Self, HandshakeError> {
        stream.write_all(&frame(&terms.encode().unwrap())).await.unwrap();
        let answer = read_option(&mut stream).await.expect("an Option");
        Ok(Self::after_handshake(stream, terms.accept_answer(&answer)?))
    }

    pub fn after_handshake(stream: S, negotiated: Negotiated) -> Self {
        let codec = negotiated.codec.clone();
        let frames = Frames::new(stream, codec, MaxFrameBytes::DEFAULT, BytesMut::new());
        Self { frames, negotiated, last: Seq(0) }
    }

    pub fn codec(&self) -> &Codec {
        &self.negotiated.codec
    }

    pub fn encode(&self, header: &HeaderRef<'_>, body: Bytes) -> Vec<u8> {
        self.frames.encode(header, body)
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.frames.write(bytes).await;
    }

    pub async fn send(&mut self, header: &HeaderRef<'_>, body: impl Into<Bytes>) {
        self.frames.send(header, body).await;
    }

    pub fn next_seq(&mut self) -> Seq {
        self.last.0 += 1;
        self.last
    }

    /// Sends a request with `set` applied to its header.
    pub async fn request_with(
        &mut self,
        method: &str,
        args: Value,
        set: impl FnOnce(&mut HeaderRef<'_>),
    ) -> Seq {
        let seq = self.next_seq();
        let mut header = HeaderRef { service_method: method, ..HeaderRef::new(Kind::Request, seq) };
        set(&mut header);
        let body = self.codec().encode(&args).unwrap();
        self.send(&header, body).await;
        seq
    }

    pub async fn request(&mut self, method: &str, args: Value) -> Seq {
        self.request_with(method, args, |_| {}).await
    }

    pub async fn cancel(&mut self, seq: Seq) {
        self.send(&HeaderRef::new(Kind::Cancel, seq), Bytes::new()).await;
    }

    pub async fn goaway(&mut self) {
        let last = self.last;
        self.send(&HeaderRef::new(Kind::Goaway, last), Bytes::new()).await;
    }

    /// Returns the next message of any kind, or `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Message> {
        let message = self.frames.next().await;
        assert!(message.is_some() || self.frames.is_between_messages(), "the stream ends within a message");
        message
    }

    /// Returns the next message that is not a ping; pings are answered.
    pub async fn recv(&mut self) -> Message {
        timeout(LONG, self.next_but_pings()).await.expect("a message, not silence")
    }

    async fn next_but_pings(&mut self) -> Message {
        loop {
            let message = self.next().await.expect("a message, not the end of the stream");
            if message.header.kind != Kind::Ping {
                return message;
            }
            self.send(&HeaderRef::new(Kind::Pong, message.header.seq), Bytes::new()).await;
        }
    }

    pub async fn response(&mut self) -> Answer {
        let message = self.recv().await;
        assert_eq!(message.header.kind, Kind::Response, "{message:?}");
        self.answer(message)
    }

    pub fn answer(&self, message: Message) -> Answer {
        Answer { codec: self.codec().clone(), message, negotiated: self.negotiated.clone() }
    }

    pub async fn call(&mut self, method: &str, args: Value) -> Answer {
        let seq = self.request(method, args).await;
        let answer = self.response().await;
        assert_eq!(answer.seq(), seq);
        answer
    }

    pub async fn assert_goaway(&mut self, last: u64, code: Code) -> String {
        let Header { kind, seq, error, .. } = self.recv().await.header;
        let error = error.expect("a goaway has an error");
        assert_eq!((kind, seq, error.code), (Kind::Goaway, Seq(last), code), "{error}");
        error.message
    }

    /// Returns when the server has read all that was sent, as its answer to a ping shows: a call would wait for a thread if
    /// its method had looked slow. No other message may be due.
    pub async fn until_read(&mut self) {
        let ping = Seq(u64::MAX);
        self.send(&HeaderRef::new(Kind::Ping, ping), Bytes::new()).await;
        let header = self.recv().await.header;
        assert_eq!((header.kind, header.seq), (Kind::Pong, ping), "{header:?}");
    }

    /// Asserts that the server closes its half without a further message.
    pub async fn assert_closed(&mut self) {
        let next = timeout(LONG, self.next()).await.expect("an end");
        assert!(next.is_none(), "{next:?}");
    }

    /// Asserts that the server sends nothing for a second.
    pub async fn assert_silent(&mut self) {
        let next = timeout(secs(1), self.next()).await;
        assert!(next.is_err(), "{next:?}");
    }
}

#[derive(Debug)]
pub struct Answer {
    pub message: Message,
    codec: Codec,
    negotiated: Negotiated,
}

impl Answer {
    pub fn seq(&self) -> Seq {
        self.message.header.seq
    }

    pub fn is_compressed(&self) -> bool {
        self.message.header.flags.contains(Flags::COMPRESSED)
    }

    #[track_caller]
    pub fn value(&self) -> Value {
        assert_eq!(self.message.header.error, None);
        let mut body = self.message.body.clone();
        if self.is_compressed() {
            body = self.negotiated.compression.unwrap().decompress(&body, MaxFrameBytes::DEFAULT).unwrap();
        }
        self.codec.decode(&body).unwrap()
    }

    pub fn is_error(&self) -> bool {
        self.message.header.error.is_some()
    }

    #[track_caller]
    pub fn status(&self) -> &Status {
        self.message.header.error.as_deref().expect("an error")
    }

    #[track_caller]
    pub fn assert_error(&self, code: Code, execution: Execution) -> &str {
        let status = self.status();
        assert_eq!((status.code, status.execution), (code, execution), "{status}");
        &status.message
    }
}

/// A running server, which ends with the test's runtime.
pub struct Running {
    pub handle: ServerHandle,
    pub stage: Stage,
    pub serving: JoinHandle<()>,
}

pub fn serve_with(stage: Stage, builder: ServerBuilder) -> Running {
    let server = builder.build().unwrap();
    let handle = server.handle();
    Running { handle, stage, serving: tokio::spawn(server.serve()) }
}

pub fn serve(limits: Limits) -> Running {
    let stage = stage();
    let builder = builder(&stage).limits(limits);
    serve_with(stage, builder)
}

impl Running {
    pub async fn connect(&self) -> Raw {
        Raw::connect(&self.handle).await
    }

    /// Asserts that calls and their memory are released within a millisecond.
    pub async fn assert_nothing_left(&self) {
        sleep(millis(1)).await;
        assert_eq!((self.handle.in_flight(), self.stage.alive()), (0, 0));
        let connections = self.handle.connections();
        if connections == 0 {
            assert_eq!(self.handle.buffered_bytes(), 0);
        }
    }

    pub fn in_flight_stats(&self) -> u64 {
        self.handle.stats().iter().map(|stats| stats.in_flight).sum()
    }
}

/// The arguments of methods that take none.
pub fn none() -> Value {
    json!({})
}

/// A stream that counts how often it is polled.
pub struct Counted<S> {
    pub inner: S,
    pub polls: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.polls.fetch_add(1, SeqCst);
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.polls.fetch_add(1, SeqCst);
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        self.polls.fetch_add(1, SeqCst);
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        self.polls.fetch_add(1, SeqCst);
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
