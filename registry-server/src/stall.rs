//! [`StallGuard`]: a stream on which writing fails if its peer takes nothing; and [`Stalled`], the bound on how many may.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// The maximum number of connections whose peers take nothing for longer than [`GRACE`]. Each holds up to 96 KiB, with TLS
/// twice, as copies; without TLS most of it is shared. Past it, those that stand still for longest are ended.
const MAX_STALLED: usize = 1024;
/// The time in which a peer that reads takes something.
const GRACE: Duration = Duration::from_secs(1);

/// The connections whose peers take nothing at the moment. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stalled(Arc<Mutex<Table>>);

/// The time since when a connection stands still, and a number.
type Key = (Instant, u64);

#[derive(Debug, Default)]
struct Table {
    connections: BTreeMap<Key, Waker>,
    next: u64,
}

/// A stream on which writing fails once its peer has taken nothing for a time, or sooner if too many do so.
#[derive(Debug)]
pub(crate) struct StallGuard<S> {
    stream: S,
    limit: Duration,
    stalled: Stalled,
    /// While the peer takes nothing.
    stall: Option<(Pin<Box<Sleep>>, Key)>,
}

impl Stalled {
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

    fn remove(&self, key: &Key) {
        self.lock().connections.remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> StallGuard<S> {
    pub(crate) const fn new(stream: S, limit: Duration, stalled: Stalled) -> Self {
        Self { stream, limit, stalled, stall: None }
    }

    /// Passes on the result of a write, or fails if the peer has taken nothing for too long.
    fn limited<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.end_stall();
            return written;
        }
        let (stalled, limit) = (&self.stalled, self.limit);
        let (timer, key) =
            self.stall.get_or_insert_with(|| (Box::pin(sleep(limit)), stalled.insert(cx.waker())));
        let reason = if timer.as_mut().poll(cx).is_ready() {
            format!("the peer took nothing for {limit:?}")
        } else if !stalled.contains(key) {
            format!("the peer takes nothing, as more than {MAX_STALLED} others do")
        } else {
            return Poll::Pending;
        };
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }

    fn end_stall(&mut self) {
        if let Some((_, key)) = self.stall.take() {
            self.stalled.remove(&key);
        }
    }
}

/// Forgets a connection that ended while it stood still.
impl<S> Drop for StallGuard<S> {
    fn drop(&mut self) {
        self.end_stall();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
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
        Pin::new(&mut self.stream).poll_flush(cx)
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
    use tokio::time::advance;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn write(stalled: &Stalled) -> (JoinHandle<io::Result<()>>, DuplexStream) {
        let (near, far) = duplex(10);
        let mut stream = StallGuard::new(near, LIMIT, stalled.clone());
        (tokio::spawn(async move { stream.write_all(&[7; 60]).await }), far)
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_takes_nothing_is_ended_and_one_that_reads_is_not() {
        let stalled = Stalled::default();
        let began = Instant::now();
        let (idle, _far) = write(&stalled);
        let (reading, mut far) = write(&stalled);
        let read = async {
            for _ in 0..6 {
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
    async fn of_too_many_those_that_stand_still_for_longest_are_ended() {
        let stalled = Stalled::default();
        let mut writes = Vec::new();
        for n in 0..MAX_STALLED + 20 {
            if n == 10 {
                // The first ten have had their time.
                advance(GRACE).await;
            }
            writes.push(write(&stalled));
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let ended: Vec<_> = writes.iter().map(|(task, _)| task.is_finished()).collect();
        assert!(ended[..10].iter().all(|ended| *ended) && !ended[10..].contains(&true), "{ended:?}");
        drop(writes);
    }
}
