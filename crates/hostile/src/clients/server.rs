//! The hostile server: a port for calls over TCP, and one for WebSockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::BytesMut;
use farcall::protocol::{
    Kind, MaxFrameBytes, MaxStreams, MessageDecoder, ServerPolicy, StreamPolicy, StreamWindow, next_option,
};
use farcall::transport::{Stream, serve_websocket, websocket_accept};
use farcall_test_support::frames::frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::trick::Trick;
use crate::peer::Mutator;

/// The pause between two bytes of an Option that comes byte by byte.
const DRIP: Duration = Duration::from_millis(20);

/// A server. Dropping it stops accepting.
pub(super) struct HostileServer {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl HostileServer {
    /// Starts a server that does this trick, for WebSockets or for plain calls.
    pub(super) async fn start(trick: Trick, websocket: bool) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Relaxed);
                // Ends with its client.
                tokio::spawn(async move {
                    let stream =
                        if websocket { open_websocket(stream).await } else { Ok(Stream::new(stream)) };
                    // The client may leave at any moment.
                    if let Ok(stream) = stream {
                        let _ = serve(stream, trick, number).await;
                    }
                });
            }
        });
        Ok(Self { address, accepted, accepting })
    }

    /// Returns the number of connections that were opened.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Answers the opening of a WebSocket.
async fn open_websocket(mut stream: TcpStream) -> io::Result<Stream> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let accept = websocket_accept(key.unwrap_or_default().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(serve_websocket(Stream::new(stream), MaxFrameBytes::DEFAULT.get()))
}

/// Does the trick on one connection.
async fn serve(mut stream: Stream, trick: Trick, number: usize) -> io::Result<()> {
    if trick == Trick::ClosesAtOnce {
        return Ok(());
    }
    let mut input = BytesMut::new();
    let option = loop {
        if let Some(option) = next_option(&mut input).map_err(io::Error::other)? {
            break option;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    };
    if let Some(bytes) = trick.option(number) {
        write(&mut stream, &bytes).await?;
        return linger(stream).await;
    }
    let streams = StreamPolicy::new(StreamWindow::DEFAULT, MaxStreams::DEFAULT);
    let policy = ServerPolicy::default().streams(streams);
    let negotiated =
        policy.negotiate(&option).map_err(|status| io::Error::other(status.to_string()))?.negotiated;
    let accept = frame(&ServerPolicy::encode_accept(&negotiated));
    if trick == Trick::HandshakeEndless {
        // All spaces: JSON that goes on.
        write(&mut stream, &60_000_u32.to_be_bytes()).await?;
        while write(&mut stream, b" ").await.is_ok() {
            sleep(DRIP).await;
        }
        return Ok(());
    }
    write(&mut stream, &accept).await?;
    let codec = negotiated.codec;
    write(&mut stream, &trick.greeting(&codec, number)).await?;
    if let Some(flood) = trick.flood(&codec) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(1..) = reader.read(&mut buffer).await {}
        });
        while !reading.is_finished() && writer.write_all(&flood).await.is_ok() {
            // One core is left to the client.
            tokio::task::yield_now().await;
        }
        return Ok(());
    }
    let decoder = MessageDecoder::new(codec.clone(), MaxFrameBytes::new(u32::MAX as usize));
    let mut mutator = Mutator::new(number as u64);
    loop {
        while let Some(message) = decoder.next(&mut input).map_err(io::Error::other)? {
            if message.header.kind == Kind::Request {
                let answer = trick.answer(&codec, &message.header, &mut mutator);
                write(&mut stream, &answer).await?;
            }
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Reads until the client leaves.
async fn linger(mut stream: Stream) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
