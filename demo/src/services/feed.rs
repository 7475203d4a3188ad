//! `Feed`: methods to test streams with.

use std::time::Duration;

use farcall::server::SendError;
use farcall::{Bytes, Receiver, Sender, Status};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::sleep;

/// Methods that show the behaviour of streams.
#[farcall::service]
pub trait Feed {
    /// Sends the numbers from `from` up to `to`, without it, and returns how many were sent.
    #[rpc(idempotent)]
    async fn count(&self, from: u64, to: u64, out: Sender<u64>) -> u64;
    /// Returns the sum of the items.
    async fn sum(&self, items: Receiver<i64>) -> Result<i64, Status>;
    /// Sends each item back, and returns how many there were.
    async fn echo(&self, items: Receiver<Bytes>, out: Sender<Bytes>) -> Result<u64, Status>;
    /// Sends `n` items of `bytes` bytes as fast as the caller takes them, and returns how many were sent.
    #[rpc(idempotent)]
    async fn blobs(&self, n: u64, bytes: u64, out: Sender<Bytes>) -> Result<u64, Status>;
    /// Sends 0, 1, 2 and so on, one every `every_ms` milliseconds, until it is cancelled.
    #[rpc(idempotent)]
    async fn ticks(&self, every_ms: u64, out: Sender<u64>);
    /// Sends the numbers below `n`, and fails.
    #[rpc(idempotent)]
    async fn fail_after(&self, n: u64, out: Sender<u64>) -> Result<(), FeedError>;
    /// Reads `n` items, or fewer if no more come, and returns how many it read.
    async fn first(&self, n: u64, items: Receiver<Anything>) -> Result<u64, Status>;
    /// Reads no item, and never ends.
    async fn hold(&self, items: Receiver<Anything>);
}

/// The error of [`Feed::fail_after`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("failed after {after} items")]
pub struct FeedError {
    /// The number of items that were sent.
    pub after: u64,
}

/// An item of any type, whose value does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anything;

impl Serialize for Anything {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|IgnoredAny| Self)
    }
}

/// The implementation.
#[derive(Debug)]
pub(crate) struct Feeding;

impl Feed for Feeding {
    async fn count(&self, from: u64, to: u64, mut out: Sender<u64>) -> u64 {
        let mut sent = 0;
        for n in from..to {
            if out.send(n).await.is_err() {
                break;
            }
            sent += 1;
        }
        sent
    }

    async fn sum(&self, mut items: Receiver<i64>) -> Result<i64, Status> {
        let mut sum = 0_i64;
        while let Some(item) = items.recv().await {
            sum = sum.wrapping_add(item?);
        }
        Ok(sum)
    }

    async fn echo(&self, mut items: Receiver<Bytes>, mut out: Sender<Bytes>) -> Result<u64, Status> {
        let mut count = 0;
        while let Some(item) = items.recv().await {
            match out.send(item?).await {
                Ok(()) => count += 1,
                Err(SendError::Stopped | SendError::Ended) => break,
                // Larger than the caller takes: without this, the stream would look complete.
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }

    async fn blobs(&self, n: u64, bytes: u64, mut out: Sender<Bytes>) -> Result<u64, Status> {
        // Larger than any frame may be, it is refused when it is sent.
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(MAX_BLOB);
        let blob = Bytes::from(vec![b'x'; bytes]);
        for sent in 0..n {
            match out.send(blob.clone()).await {
                Ok(()) => {}
                Err(SendError::Stopped | SendError::Ended) => return Ok(sent),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(n)
    }

    async fn ticks(&self, every_ms: u64, mut out: Sender<u64>) {
        let mut n = 0;
        while out.send(n).await.is_ok() {
            n += 1;
            sleep(Duration::from_millis(every_ms)).await;
        }
    }

    async fn fail_after(&self, n: u64, mut out: Sender<u64>) -> Result<(), FeedError> {
        for item in 0..n {
            if out.send(item).await.is_err() {
                return Err(FeedError { after: item });
            }
        }
        Err(FeedError { after: n })
    }

    async fn first(&self, n: u64, mut items: Receiver<Anything>) -> Result<u64, Status> {
        for read in 0..n {
            match items.recv().await {
                Some(item) => _ = item?,
                None => return Ok(read),
            }
        }
        Ok(n)
    }

    async fn hold(&self, items: Receiver<Anything>) {
        std::future::pending::<()>().await;
        drop(items);
    }
}

/// The size of the largest blob, in bytes, so that no argument makes the server run out of memory.
const MAX_BLOB: usize = 64 * 1024 * 1024;
