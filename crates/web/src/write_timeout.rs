//! [`WriteTimeout`]: a stream on which writing fails if its peer takes nothing; and [`StalledPeers`], the bound on how many
//! may.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::hang_up::HangUpCheck;

/// The maximum number of connections whose peers take nothing for longer than [`GRACE`]. Each holds up to 96 KiB, with TLS
/// twice, as copies; without TLS most of it is shared. Past it, those that stand still for longest are ended.
const MAX_STALLED: usize = 1024;
/// The time in which a peer that reads takes something.
const GRACE: Duration = Duration::from_secs(1);

/// The connections of a server whose peers take nothing at the moment: at most 1,024 of them may do so for longer than a
/// second. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct StalledPeers(Arc<Mutex<Table>>);

/// The time since when a connection stands still, and a number.
type Key = (Instant, u64);

#[derive(Debug, Default)]
struct Table {
    connections: BTreeMap<Key, Waker>,
    next: u64,
}

/// A stream on which writing fails once its peer has taken nothing for a time, or sooner if too many peers do so.
///
/// ```
/// use std::time::Duration;
///
/// use farcall_web::{StalledPeers, WriteTimeout};
/// use tokio::io::AsyncWriteExt as _;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let (near, _far) = tokio::io::duplex(10);
/// let mut stream = WriteTimeout::new(near, Duration::from_secs(30), StalledPeers::default());
/// let error = stream.write_all(&[0; 11]).await.unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
/// # }
/// ```
#[derive(Debug)]
pub struct WriteTimeout<S> {
    stream: S,
    limit: Option<Duration>,
    stalled_peers: StalledPeers,
    /// While the peer takes nothing.
    stall: Option<Stall>,
    hang_up: HangUpCheck<S>,
}

/// The time of a peer that takes nothing, and its place among the others.
#[derive(Debug)]
struct Stall {
    timer: Pin<Box<Sleep>>,
    stalled_peers: StalledPeers,
    key: Key,
}

impl StalledPeers {
    /// Adds a connection; ends the one that has stood still for longest if there are too many.
    fn insert(&self, waker: &Waker) -> Key {
        let mut table = self.lock();
        let now = Instant::now();
        let key = (now, table.next);
        table.next += 1;
        table.connections.insert(key, waker.clone());
        if table.connections.len() > MAX_STALLED
            && let Some(oldest) = table.connections.first_entry()
            && oldest.key().0 + GRACE <= now
        {
            // Its stream finds that it was removed.
            oldest.remove().wake();
        }
        key
    }

    fn contains(&self, key: &Key) -> bool {
        self.lock().connections.contains_key(key)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stall {
    fn begin(limit: Duration, stalled_peers: &StalledPeers, waker: &Waker) -> Self {
        let stalled_peers = stalled_peers.clone();
        Self { timer: Box::pin(sleep(limit)), key: stalled_peers.insert(waker), stalled_peers }
    }
}

/// Forgets a connection that takes something again, or that ended while it stood still.
impl Drop for Stall {
    fn drop(&mut self) {
        self.stalled_peers.lock().connections.remove(&self.key);
    }
}

impl<S> WriteTimeout<S> {
    /// Wraps a stream. `None` is no limit, and no place among `stalled_peers`, which the connections of a server share.
    pub fn new(stream: S, limit: impl Into<Option<Duration>>, stalled_peers: StalledPeers) -> Self {
        let hang_up = HangUpCheck::new(None);
        Self { stream, limit: limit.into(), stalled_peers, stall: None, hang_up }
    }

    /// Has flushes fail once the peer has closed the stream, as `has_left` tells without reading it: within 1 s, as long
    /// as nothing waits for data. Default: a peer that has left is noticed by reading or writing.
    #[must_use]
    pub fn with_hang_up(self, has_left: fn(&S) -> bool) -> Self {
        Self { hang_up: HangUpCheck::new(Some(has_left)), ..self }
    }

    /// Returns the stream without its limit.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Passes on the result of a write, or fails if the peer has taken nothing for too long.
    fn limited<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let Some(limit) = self.limit else { return Poll::Pending };
        let stall = self.stall.get_or_insert_with(|| Stall::begin(limit, &self.stalled_peers, cx.waker()));
        let reason = if stall.timer.as_mut().poll(cx).is_ready() {
            format!("the peer took nothing for {limit:?}")
        } else if !self.stalled_peers.contains(&stall.key) {
            format!("the peer takes nothing, as more than {MAX_STALLED} others do")
        } else {
            return Poll::Pending;
        };
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.hang_up.read(&read);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.limited(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.limited(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        let this = &mut *self;
        if this.hang_up.poll(&this.stream, cx) {
            let reason = "the peer has closed the connection";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason)));
        }
        this.limited(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.limited(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn write(
        limit: impl Into<Option<Duration>>,
        stalled: &StalledPeers,
    ) -> (JoinHandle<io::Result<()>>, DuplexStream) {
        let (near, far) = duplex(10);
        let mut stream = WriteTimeout::new(near, limit, stalled.clone());
        (tokio::spawn(async move { stream.write_all(&[7; 60]).await }), far)
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_takes_nothing_is_ended_and_one_that_reads_slowly_is_not() {
        let stalled = StalledPeers::default();
        let began = Instant::now();
        let (idle, _far) = write(LIMIT, &stalled);
        let (reading, mut far) = write(LIMIT, &stalled);
        let read = async {
            for _ in 0..6 {
                // In paused time: shortly before the limit.
                sleep(LIMIT * 3 / 4).await;
                far.read_exact(&mut [0; 10]).await.unwrap();
            }
        };
        let end = async {
            assert_eq!(idle.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(began.elapsed(), LIMIT);
        };
        tokio::join!(read, end);
        reading.await.unwrap().unwrap();
        assert_eq!(stalled.lock().connections.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn peer_without_a_limit_is_waited_for() {
        let stalled = StalledPeers::default();
        let (writing, _far) = write(None, &stalled);
        timeout(LIMIT * 1000, writing).await.unwrap_err();
        assert_eq!(stalled.lock().connections.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_those_that_stand_still_for_longest_are_ended() {
        let stalled = StalledPeers::default();
        let mut writes = Vec::new();
        for n in 0..MAX_STALLED + 20 {
            if n == 10 {
                // The first ten have had their time.
                advance(GRACE).await;
            }
            writes.push(write(LIMIT, &stalled));
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let ended: Vec<_> = writes.iter().map(|(task, _)| task.is_finished()).collect();
        assert!(ended[..10].iter().all(|ended| *ended) && !ended[10..].contains(&true), "{ended:?}");
        drop(writes);
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_are_allowed_may_stand_still() {
        let stalled = StalledPeers::default();
        let mut keys: Vec<_> = (1..MAX_STALLED).map(|_| stalled.insert(Waker::noop())).collect();
        advance(GRACE).await;
        keys.push(stalled.insert(Waker::noop()));
        assert!(keys.iter().all(|key| stalled.contains(key)));
        stalled.insert(Waker::noop());
        assert!(!stalled.contains(&keys[0]));
        assert!(keys[1..].iter().all(|key| stalled.contains(key)));
    }
}
