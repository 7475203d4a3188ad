//! A service whose methods stream.

use std::time::Duration;

use farcall::server::ServerBuilder;
use farcall::{Receiver, Sender, Server, Status};
use serde::{Deserialize, Serialize};

/// Methods with items.
#[farcall::service]
pub(crate) trait Feed {
    /// Sends the numbers from `from` up to `to`, without it, and returns how many were sent.
    #[rpc(idempotent)]
    async fn count(&self, from: u64, to: u64, out: Sender<u64>) -> u64;
    /// Returns the sum of the items.
    async fn sum(&self, items: Receiver<i64>) -> Result<i64, Status>;
    /// Sends each item back, and returns how many there were.
    async fn echo(&self, items: Receiver<String>, out: Sender<String>) -> Result<u64, Status>;
    /// Sends the numbers below `n`, and fails.
    async fn fail_after(&self, n: u64, out: Sender<u64>) -> Result<(), FeedError>;
    /// Reads `n` items, or fewer if no more come, and returns how many it read.
    async fn first(&self, n: u64, items: Receiver<String>) -> Result<u64, Status>;
    /// Reads no item, and never ends.
    async fn hold(&self, items: Receiver<String>);
    /// Sends the numbers below `n`, and never ends.
    async fn stall(&self, n: u64, out: Sender<u64>);
    /// Sends a number every few milliseconds, and never ends.
    async fn ticks(&self, out: Sender<u64>);
}

/// The error of `fail_after`.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("failed after {after} items")]
pub(crate) struct FeedError {
    after: u64,
}

struct Feeding;

impl Feed for Feeding {
    async fn count(&self, from: u64, to: u64, out: Sender<u64>) -> u64 {
        send(from..to, out).await
    }

    async fn sum(&self, mut items: Receiver<i64>) -> Result<i64, Status> {
        let mut sum = 0_i64;
        while let Some(item) = items.recv().await {
            sum = sum.wrapping_add(item?);
        }
        Ok(sum)
    }

    async fn echo(&self, mut items: Receiver<String>, mut out: Sender<String>) -> Result<u64, Status> {
        let mut count = 0;
        while let Some(item) = items.recv().await {
            if out.send(item?).await.is_err() {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    async fn fail_after(&self, n: u64, out: Sender<u64>) -> Result<(), FeedError> {
        Err(FeedError { after: send(0..n, out).await })
    }

    async fn first(&self, n: u64, mut items: Receiver<String>) -> Result<u64, Status> {
        for read in 0..n {
            match items.recv().await {
                Some(item) => drop(item?),
                None => return Ok(read),
            }
        }
        Ok(n)
    }

    async fn hold(&self, items: Receiver<String>) {
        std::future::pending::<()>().await;
        drop(items);
    }

    async fn stall(&self, n: u64, mut out: Sender<u64>) {
        for item in 0..n {
            let _ = out.send(item).await;
        }
        std::future::pending::<()>().await;
    }

    async fn ticks(&self, mut out: Sender<u64>) {
        for tick in 0.. {
            if out.send(tick).await.is_err() {
                return;
            }
            // What it is for: a rate that can be seen.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn send(numbers: std::ops::Range<u64>, mut out: Sender<u64>) -> u64 {
    let mut sent = 0;
    for number in numbers {
        if out.send(number).await.is_err() {
            break;
        }
        sent += 1;
    }
    sent
}

/// Describes a server with `Feed`.
pub(crate) fn feed_server() -> ServerBuilder {
    Server::builder().service(Feeding.into_service())
}

/// Serves `Feed` over TCP, and returns `host:port`.
pub(crate) fn feed() -> String {
    super::serve(feed_server(), "tcp@127.0.0.1:0").to_string().replace("tcp@", "")
}
