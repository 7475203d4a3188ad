//! A server that a test controls message by message, built on the protocol crate alone.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that cannot set up has failed")]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farcall_client::{CallError, Channel, Connection, ConnectionOptions, RpcError};
use farcall_protocol::{
    Code, Codec, Execution, Flags, HeaderRef, Kind, MaxFrameBytes, MaxInFlight, Message, Metadata,
    Negotiated, Outbox, Seq, ServerPolicy, Status,
};
use farcall_test_support::frames::{Frames, read_option};
use farcall_test_support::wait::{PATIENCE, within_patience};
use farcall_transport::{Address, Stream};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

pub use farcall_test_support::wait::{pass, settle};

pub const MS: Duration = Duration::from_millis(1);
pub const S: Duration = Duration::from_secs(1);

/// The address of a server in memory, as the client's errors name it.
pub const MEMORY: &str = "tcp@10.0.0.3:7001";

/// The server's end of a connection.
pub struct Peer<S = DuplexStream> {
    pub frames: Frames<S>,
    pub negotiated: Negotiated,
}

/// Opens a connection in memory; returns it and the server's end.
pub async fn connect(options: &ConnectionOptions) -> (Connection, Peer) {
    connect_with(options, &ServerPolicy::default(), 64 * 1024).await
}

/// Opens a channel in memory with at most `calls` in flight.
pub async fn connect_for(calls: usize) -> (Channel, Peer) {
    let terms = ServerPolicy::default().max_in_flight(MaxInFlight::new(calls));
    let (connection, peer) = connect_with(&ConnectionOptions::default(), &terms, 64 * 1024).await;
    (Channel::from(connection), peer)
}

pub async fn connect_with(
    options: &ConnectionOptions,
    terms: &ServerPolicy,
    buffer: usize,
) -> (Connection, Peer) {
    let (near, far) = tokio::io::duplex(buffer);
    let address = Address::parse(MEMORY).unwrap();
    let near = Connection::over(Stream::new(near), &address, options);
    let (near, far) = tokio::join!(near, Peer::accept(far, terms));
    (near.unwrap(), far)
}

/// Opens a channel over a connection in memory; returns it and the server's end.
pub async fn channel() -> (Channel, Peer) {
    let (connection, peer) = connect(&ConnectionOptions::default()).await;
    (connection.into(), peer)
}

/// A server on a real socket. Time must not be paused while the kernel works: see [`pass`].
pub struct Listener {
    listener: TcpListener,
    pub address: String,
}

impl Listener {
    pub async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp@{}", listener.local_addr().unwrap());
        Self { listener, address }
    }

    pub async fn accept(&self) -> Peer<TcpStream> {
        Peer::accept(self.accept_mute().await, &ServerPolicy::default()).await
    }

    /// Accepts a connection, and says goaway with the bytes that end the handshake.
    pub async fn accept_and_leave(&self) -> Peer<TcpStream> {
        let leaving = |codec: &Codec, outbox: &mut Outbox| {
            let goaway = HeaderRef::new(Kind::Goaway, Seq(0));
            outbox.push(codec, &goaway, &Bytes::new().into(), MaxFrameBytes::DEFAULT).unwrap();
        };
        Peer::accept_with(self.accept_mute().await, &ServerPolicy::default(), leaving).await
    }

    /// Accepts a connection without answering its handshake.
    pub async fn accept_mute(&self) -> TcpStream {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("the client dials").unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Returns `true` if a client has dialed that was not accepted yet.
    pub async fn was_dialed(&self) -> bool {
        settle().await;
        timeout(20 * MS, self.listener.accept()).await.is_ok()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// Reads the client's Option and accepts it.
    pub async fn accept(stream: S, terms: &ServerPolicy) -> Self {
        Self::accept_with(stream, terms, |_, _| {}).await
    }

    /// Does the same, and sends what `more` adds with the answer.
    async fn accept_with(
        mut stream: S,
        terms: &ServerPolicy,
        more: impl FnOnce(&Codec, &mut Outbox),
    ) -> Self {
        let mut input = BytesMut::new();
        let option = read_option(&mut stream, &mut input).await.expect("the client sends an Option");
        let negotiated = terms.negotiate(&option).unwrap().negotiated;
        let mut outbox = Outbox::new();
        outbox.push_frame(&ServerPolicy::encode_accept(&negotiated));
        more(&negotiated.codec, &mut outbox);
        stream.write_all_buf(&mut outbox).await.unwrap();
        let frames = Frames::new(stream, negotiated.codec.clone(), negotiated.receive_limit, input);
        Self { frames, negotiated }
    }

    /// Returns the client's next message, or `None` at the end of its stream.
    pub async fn next(&mut self) -> Option<Message> {
        within_patience("the client sends a message", self.frames.next()).await
    }

    /// Returns the next message, which must be of this kind.
    pub async fn expect(&mut self, kind: Kind) -> Message {
        let message = self.next().await.expect("the client is still connected");
        assert_eq!(message.header.kind, kind, "{message:?}");
        message
    }

    /// Returns the next message, which must be a request.
    pub async fn request(&mut self) -> Message {
        self.expect(Kind::Request).await
    }

    /// Asserts that the client sends nothing for this long.
    pub async fn assert_silent(&mut self, time: Duration) {
        if let Ok(heard) = timeout(time, self.next()).await {
            panic!("an unexpected message: {heard:?}");
        }
    }

    pub async fn send(&mut self, header: &HeaderRef<'_>, body: impl Into<Bytes>) {
        self.frames.send(header, body).await;
    }

    /// Writes raw bytes.
    pub async fn raw(&mut self, bytes: &[u8]) {
        self.frames.write(bytes).await;
    }

    pub async fn say(&mut self, kind: Kind, seq: u64) {
        self.frames.send(&HeaderRef::new(kind, Seq(seq)), Bytes::new()).await;
    }

    /// Answers a request.
    pub async fn answer(&mut self, seq: Seq, result: &impl Serialize) {
        let body = self.negotiated.codec.encode(result).unwrap();
        self.send(&HeaderRef::new(Kind::Response, seq), body).await;
    }

    /// Answers a request with an error.
    pub async fn fail(&mut self, seq: Seq, code: Code, execution: Execution, text: &str) {
        let status = Status::new(code, execution, text);
        let header = HeaderRef { error: Some(&status), ..HeaderRef::new(Kind::Response, seq) };
        self.send(&header, Bytes::new()).await;
    }

    /// Sends a goaway: no request above `last` will be started.
    pub async fn goaway(&mut self, last: Seq, reason: &str) {
        let status = Status::refused(Code::Unavailable, reason);
        let header = HeaderRef { error: Some(&status), ..HeaderRef::new(Kind::Goaway, last) };
        self.send(&header, Bytes::new()).await;
    }

    pub fn codec(&self) -> Codec {
        self.negotiated.codec.clone()
    }
}

/// Metadata with these pairs.
pub fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    let mut metadata = Metadata::new();
    for (key, value) in pairs {
        metadata.insert(*key, *value).unwrap();
    }
    metadata
}

pub fn is_one_way(message: &Message) -> bool {
    message.header.flags.contains(Flags::ONE_WAY)
}

/// Returns farcall's error of a call that must have failed.
pub fn rpc<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> RpcError {
    match outcome {
        Err(CallError::Rpc(error)) => error,
        other => panic!("the call should have failed: {other:?}"),
    }
}

/// Asserts the code, the execution, the phase and, if given, the endpoint of an error. Texts are
/// pinned in `error_texts.rs` alone.
#[macro_export]
macro_rules! assert_error {
    ($error:expr, $code:ident, $execution:ident, $phase:ident $(, $endpoint:expr)?) => {{
        let error = &$error;
        let is = (error.code(), error.execution(), error.phase());
        let code = farcall_protocol::Code::$code;
        let execution = farcall_protocol::Execution::$execution;
        assert_eq!(is, (code, execution, farcall_client::Phase::$phase), "{error}");
        $(assert_eq!(error.endpoint().unwrap().to_string(), *$endpoint, "{error}");)?
    }};
}
