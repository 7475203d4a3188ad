//! A server that does what a test says, message by message, built on nothing but the protocol.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that cannot set up has failed")]

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use farcall_client::{CallError, Channel, Connection, ConnectionOptions, RpcError};
use farcall_protocol::{
    Code, Codec, Execution, Flags, HeaderRef, Kind, MaxInFlight, Message, MessageDecoder, Metadata,
    Negotiated, Outbox, Seq, ServerPolicy, Status, next_option,
};
use farcall_transport::{Address, Stream};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{advance, pause, resume, timeout};

pub const MS: Duration = Duration::from_millis(1);
pub const S: Duration = Duration::from_secs(1);

/// What the client's errors call a server in memory.
pub const MEMORY: &str = "tcp@10.0.0.3:7001";

/// How long a test waits for what should come: in paused time, longer than anything should take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server's end of a connection.
pub struct Peer<S = DuplexStream> {
    pub stream: S,
    pub negotiated: Negotiated,
    input: BytesMut,
}

/// A connection in memory, and the server's end of it.
pub async fn connect(options: &ConnectionOptions) -> (Connection, Peer) {
    connect_with(options, &ServerPolicy::default(), 64 * 1024).await
}

/// The same, with at most `calls` in flight.
pub async fn connect_for(calls: usize) -> (Channel, Peer) {
    let terms = ServerPolicy { max_in_flight: MaxInFlight::new(calls), ..ServerPolicy::default() };
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

/// A channel over a connection in memory, and the server's end of it.
pub async fn channel() -> (Channel, Peer) {
    let (connection, peer) = connect(&ConnectionOptions::default()).await;
    (connection.into(), peer)
}

/// A server that is dialed. Time must not be paused while the kernel works: see [`pass`].
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

    /// A client that gets no answer to its handshake yet.
    pub async fn accept_mute(&self) -> TcpStream {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("the client dials").unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Whether a client has come that was not accepted yet.
    pub async fn was_dialed(&self) -> bool {
        settle().await;
        timeout(20 * MS, self.listener.accept()).await.is_ok()
    }
}

/// A listener whose backlog is full: the kernel drops further connections without an answer.
pub struct FullBacklog {
    pub address: Address,
    _listener: TcpListener,
    _filling: JoinSet<io::Result<TcpStream>>,
}

impl FullBacklog {
    pub async fn bind() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut filling = JoinSet::new();
        for _ in 0..3 {
            filling.spawn(TcpStream::connect(address));
        }
        // Two fit. The third never connects.
        for _ in 0..2 {
            filling.join_next().await.unwrap().unwrap().unwrap();
        }
        Self { address: Address::tcp(address), _listener: listener, _filling: filling }
    }
}

impl<S: AsyncReadExt + AsyncWriteExt + Unpin> Peer<S> {
    /// Takes the client's Option and answers it.
    pub async fn accept(mut stream: S, terms: &ServerPolicy) -> Self {
        let mut input = BytesMut::new();
        let option = Self::read_option(&mut stream, &mut input).await;
        let negotiated = terms.negotiate(&option).unwrap().negotiated;
        let mut outbox = Outbox::new();
        outbox.push_frame(&ServerPolicy::encode_accept(&negotiated));
        stream.write_all_buf(&mut outbox).await.unwrap();
        Self { stream, negotiated, input }
    }

    /// Takes the client's Option and refuses it, which these terms must do.
    pub async fn refuse(mut stream: S, terms: &ServerPolicy) {
        let option = Self::read_option(&mut stream, &mut BytesMut::new()).await;
        let status = terms.negotiate(&option).unwrap_err();
        let mut outbox = Outbox::new();
        outbox.push_frame(&terms.encode_refusal(&status));
        stream.write_all_buf(&mut outbox).await.unwrap();
    }

    async fn read_option(stream: &mut S, input: &mut BytesMut) -> Bytes {
        loop {
            if let Some(option) = next_option(input).unwrap() {
                return option;
            }
            assert_ne!(stream.read_buf(input).await.unwrap(), 0, "the client sends an Option");
        }
    }

    /// The next message of the client; none at the end of its stream.
    pub async fn next(&mut self) -> Option<Message> {
        let decoder = MessageDecoder::new(self.negotiated.codec.clone(), self.negotiated.receive_limit);
        loop {
            if let Some(message) = decoder.next(&mut self.input).unwrap() {
                return Some(message);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input));
            if read.await.expect("the client says something").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next message, which is of this kind.
    pub async fn expect(&mut self, kind: Kind) -> Message {
        let message = self.next().await.expect("the client is not gone");
        assert_eq!(message.header.kind, kind, "{message:?}");
        message
    }

    /// The next message, which is a request.
    pub async fn request(&mut self) -> Message {
        self.expect(Kind::Request).await
    }

    /// That the client says nothing for so long.
    pub async fn assert_silent(&mut self, time: Duration) {
        if let Ok(heard) = timeout(time, self.next()).await {
            panic!("nothing was to come: {heard:?}");
        }
    }

    pub async fn send(&mut self, header: &HeaderRef<'_>, body: impl Into<Bytes>) {
        let mut outbox = Outbox::new();
        outbox.push(&self.negotiated.codec, header, &body.into().into(), self.negotiated.send_limit).unwrap();
        self.raw(&outbox.copy_to_bytes(outbox.remaining())).await;
    }

    /// Writes bytes as they are.
    pub async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub async fn say(&mut self, kind: Kind, seq: u64) {
        self.send(&HeaderRef::new(kind, Seq(seq)), Bytes::new()).await;
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

    /// Says that nothing above `last` will be started.
    pub async fn goaway(&mut self, last: Seq, why: &str) {
        let status = Status::refused(Code::Unavailable, why);
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

/// farcall's error of a call that failed.
pub fn rpc<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> RpcError {
    match outcome {
        Err(CallError::Rpc(error)) => error,
        other => panic!("the call was to fail: {other:?}"),
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

/// Lets everything that is ready run, where time does not pass.
pub async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Lets `time` pass in a test over real sockets: paused time would run away while the kernel works.
pub async fn pass(time: Duration) {
    settle().await;
    pause();
    advance(time).await;
    resume();
    settle().await;
}
