//! [`HttpStream`]: the stream below HTTP, whose heads count in what all connections may hold of them.
//!
//! hyper keeps a head until it is complete, and a handler may keep its values as long as it runs. So a head counts from its
//! first byte until the handler has returned a response.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::byte_shares::HeldBytes;
use crate::head_refusal::HeadRefusal;

/// The memory of hyper's buffer for each byte of a head: a buffer grows to twice its size.
const MEMORY_PER_BYTE: usize = 2;
/// The most bytes that one read takes while a request is under way: so much of the next one may lie behind it.
const MAX_BODY_READ: usize = 16 * 1024;

/// The stream of a connection that [`serve_http1`](crate::serve_http1) serves.
///
/// If too much is held of the heads of all connections, or of those of one peer, the request is answered with 431, and reading
/// fails once the peer has closed its side.
#[derive(Debug)]
pub struct HttpStream<I> {
    io: I,
    heads: Arc<HeadMemory>,
    /// All that hyper has written was flushed, so that an answer may stand behind it.
    is_flushed: bool,
    refusal: Option<HeadRefusal>,
}

/// The memory that the heads of a connection take.
#[derive(Debug)]
pub(crate) struct HeadMemory(Mutex<State>);

#[derive(Debug)]
struct State {
    held: HeldBytes,
    phase: Phase,
    /// The bytes that were read since the end of the last request, until the next one was under way.
    read: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    /// A request is under way.
    Request,
    /// HTTP has ended.
    Upgraded,
}

/// A request under way, to the end of its response: what is read meanwhile is no head.
#[derive(Debug)]
pub(crate) struct HeadGuard(Arc<HeadMemory>);

impl<I: Unpin + AsyncRead + AsyncWrite + Send + 'static> HttpStream<I> {
    pub(crate) const fn new(io: I, heads: Arc<HeadMemory>) -> Self {
        Self { io, heads, is_flushed: true, refusal: None }
    }

    /// Returns the stream below HTTP, and what was read of it behind the last head, of a connection that
    /// [`serve_http1`](crate::serve_http1) has handed over.
    ///
    /// # Errors
    ///
    /// The connection is of another server, or its stream of another type.
    pub fn unwrap(upgraded: Upgraded) -> Result<(I, Bytes), Upgraded> {
        let parts = upgraded.downcast::<TokioIo<Self>>()?;
        Ok((parts.io.into_inner().io, parts.read_buf))
    }
}

impl HeadMemory {
    pub(crate) fn new(held: HeldBytes) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { held, phase: Phase::Head, read: 0 })))
    }

    /// Begins a request, whose head is complete.
    pub(crate) fn begin_request(self: &Arc<Self>) -> HeadGuard {
        self.lock().phase = Phase::Request;
        HeadGuard(Arc::clone(self))
    }

    /// Counts no more: what follows is not HTTP.
    pub(crate) fn upgraded(&self) {
        self.lock().phase = Phase::Upgraded;
    }

    /// Counts bytes that were read.
    fn count(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.lock();
        if state.phase != Phase::Head || bytes == 0 {
            return Ok(());
        }
        state.read += bytes;
        let memory = state.read * MEMORY_PER_BYTE;
        if state.held.resize(memory) {
            return Ok(());
        }
        let limit = state.held.limit();
        // Less is always held.
        let _ = state.held.resize(0);
        let text = format!(
            "the memory for the heads of requests is full: {limit} bytes, half of them for one client"
        );
        Err(io::Error::new(io::ErrorKind::OutOfMemory, text))
    }

    /// Only counting happens under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeadGuard {
    /// Counts the head no more: the handler has returned, and has it no longer.
    pub(crate) fn release(&self) {
        let mut state = self.0.lock();
        state.read = 0;
        // Less is always held.
        let _ = state.held.resize(0);
    }
}

impl Drop for HeadGuard {
    fn drop(&mut self) {
        self.release();
        let mut state = self.0.lock();
        if state.phase == Phase::Request {
            state.phase = Phase::Head;
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for HttpStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(refusal) = &mut this.refusal {
            return refusal.poll(&mut this.io, cx).map(Err);
        }
        let begin = buf.filled().len();
        let is_request = self.heads.lock().phase == Phase::Request;
        let (polled, read) = if is_request && buf.remaining() > MAX_BODY_READ {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(MAX_BODY_READ));
            let polled = Pin::new(&mut self.io).poll_read(cx, &mut part);
            let read = part.filled().len();
            buf.advance(read);
            (polled, read)
        } else {
            let polled = Pin::new(&mut self.io).poll_read(cx, buf);
            (polled, buf.filled().len() - begin)
        };
        if !matches!(polled, Poll::Ready(Ok(()))) {
            return polled;
        }
        let this = &mut *self;
        match this.heads.count(read) {
            Err(error) if this.is_flushed => {
                buf.set_filled(begin);
                this.refusal.insert(HeadRefusal::new(error)).poll(&mut this.io, cx).map(Err)
            }
            counted => Poll::Ready(counted),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for HttpStream<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.is_flushed = false;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.is_flushed |= matches!(flushed, Poll::Ready(Ok(())));
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_flushed = false;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::Request;
    use axum::response::{IntoResponse, Response};
    use farcall_transport::{PeerAddress, PeerKey};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use crate::connection_table::ConnectionTable;
    use crate::serve_http1;

    const KIB: usize = 1024;

    fn peer(number: u8) -> PeerKey {
        PeerAddress::Tcp(([10, 0, 0, number], 7).into()).key()
    }

    /// Holds the headers of a request to `/wait` for an hour.
    async fn answer(request: Request<Body>) -> Result<Response, Infallible> {
        if request.uri().path() == "/wait" {
            let headers = request.into_parts().0.headers;
            // In paused time: longer than the test, so that the headers are held to its end.
            tokio::time::sleep(Duration::from_secs(3600)).await;
            drop(headers);
        }
        Ok("hello".into_response())
    }

    /// A connection of a peer, and the task that serves it, which ends with it.
    struct Client(DuplexStream, JoinHandle<()>);

    impl Client {
        fn connect(table: &ConnectionTable, peer: PeerKey) -> Self {
            let slot = table.open(peer).unwrap();
            let (near, far) = tokio::io::duplex(128 * KIB);
            let serving = tokio::spawn(async move {
                let (shutdown, limit) = (CancellationToken::new(), Some(Duration::from_secs(10)));
                let _ = serve_http1(near, answer, limit, &shutdown, slot.activity()).await;
            });
            Self(far, serving)
        }

        async fn send(&mut self, text: &str) {
            // The other side may have ended it.
            let _ = self.0.write_all(text.as_bytes()).await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }

        /// Sends a request, and returns the status of the response, if there is one.
        async fn status(&mut self, text: &str) -> Option<String> {
            self.send(text).await;
            let mut answer = [0; 12];
            let read = timeout(Duration::from_millis(1), self.0.read_exact(&mut answer)).await;
            read.ok()?.ok()?;
            Some(String::from_utf8_lossy(&answer[9..]).into_owned())
        }

        /// Sends a request, and returns `true` if it is answered with 200.
        async fn is_served(&mut self, text: &str) -> bool {
            self.status(text).await.as_deref() == Some("200")
        }
    }

    fn head(path: &str, bytes: usize) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(bytes))
    }

    /// Sends a head on each of many connections of a peer, and returns those that were not refused.
    async fn open(table: &ConnectionTable, peer: PeerKey, text: &str) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..400 {
            let mut client = Client::connect(table, peer);
            match client.status(text).await.as_deref() {
                None => clients.push(client),
                Some(status) => assert_eq!(status, "431"),
            }
        }
        clients
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_heads_of_one_peer_leave_room_for_others() {
        let table = ConnectionTable::new(None);
        let begun = open(&table, peer(1), &head("/", 60 * KIB)).await;
        // Half of 64 MiB, of which each takes 120 KiB and a little.
        assert!((260..=273).contains(&begun.len()), "{}", begun.len());
        let whole = |bytes| head("/", bytes) + "\r\n\r\n";
        assert!(!Client::connect(&table, peer(1)).is_served(&whole(60 * KIB)).await);
        assert!(Client::connect(&table, peer(1)).is_served(&whole(7 * KIB)).await, "small ones have room");
        assert!(Client::connect(&table, peer(2)).is_served(&whole(60 * KIB)).await);
        drop(begun);
        tokio::task::yield_now().await;
        let mut client = Client::connect(&table, peer(1));
        for _ in 0..1000 {
            // Each is forgotten after its response.
            assert!(client.is_served(&whole(60 * KIB)).await);
            let mut rest = [0; 4096];
            let _ = timeout(Duration::from_millis(1), client.0.read(&mut rest)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refused_head_is_answered_and_the_connection_ends() {
        let table = ConnectionTable::new(None);
        let _begun = open(&table, peer(1), &head("/", 60 * KIB)).await;
        // Behind an answer, too, and the rest of what the peer sends is no request.
        let mut client = Client::connect(&table, peer(1));
        let whole = head("/", KIB) + "\r\n\r\n";
        assert!(client.is_served(&whole).await);
        let mut rest = [0; 4096];
        let _ = timeout(Duration::from_millis(1), client.0.read(&mut rest)).await;
        client.send(&head("/", 60 * KIB)).await;
        client.send(&format!("\r\n\r\n{whole}")).await;
        let mut answer = String::new();
        client.0.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 ") && answer.ends_with("has room\n"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1);
        let Client(stream, serving) = client;
        drop(stream);
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn head_counts_until_the_response() {
        let table = ConnectionTable::new(None);
        let waiting = open(&table, peer(1), &(head("/wait", 60 * KIB) + "\r\n\r\n")).await;
        assert!((260..=273).contains(&waiting.len()), "{}", waiting.len());
    }
}
