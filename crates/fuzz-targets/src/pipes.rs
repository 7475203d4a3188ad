//! [`in_paused_time`] and [`Pipes`]: what sessions run in: one thread, paused time, and streams in memory.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farcall_transport::{Address, Connect, Connecting, Dialer, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// Bytes that a pipe holds in each direction.
pub(crate) const PIPE_BYTES: usize = 64 * 1024;

/// Runs a future in a runtime with paused time.
pub(crate) fn in_paused_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let result = runtime.block_on(future);
    // Threads that still look at a file end by themselves.
    runtime.shutdown_background();
    result
}

/// A connector that hands out the far ends of its pipes.
pub(crate) struct Pipes(Mutex<UnboundedSender<DuplexStream>>);

impl Pipes {
    /// Returns a dialer, and the far ends of the streams that it opens.
    pub(crate) fn dialer() -> (Dialer, UnboundedReceiver<DuplexStream>) {
        let (sender, receiver) = unbounded_channel();
        (Dialer::default().without_proxy().connector(Self(Mutex::new(sender))), receiver)
    }
}

impl Connect for Pipes {
    fn connect<'a>(&'a self, _: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let (near, far) = duplex(PIPE_BYTES);
            let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            sender.send(far).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(Stream::new(near))
        })
    }
}

/// Writes bytes, unless the other side takes none for a second.
pub(crate) async fn write(stream: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) {
    // A stream that was closed, or is not read, is an end as good as any.
    let _ = timeout(Duration::from_secs(1), stream.write_all(bytes)).await;
}

/// Reads what has been sent, at most 64 KiB, without waiting for more.
pub(crate) async fn read_some(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut received = vec![0; PIPE_BYTES];
    let read = timeout(Duration::from_millis(1), stream.read(&mut received)).await;
    received.truncate(read.ok().and_then(Result::ok).unwrap_or_default());
    received
}
