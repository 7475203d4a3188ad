//! [`Prices`]: the service of prices.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use farcall::{Context, Sender};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// The changes that a list keeps for subscribers that lag behind.
const KEPT_CHANGES: usize = 256;

/// The prices of items, in cents.
#[farcall::service]
pub trait Prices {
    /// Returns the price of an item.
    #[rpc(idempotent)]
    async fn price(&self, item: String) -> Result<u32, UnknownItem>;
    /// Sets the price of an item, at this server.
    #[rpc(idempotent = "same_server")]
    async fn set(&self, item: String, cents: u32);
    /// Sends each change from now on, until the server stops; returns how many it sent.
    async fn changes(&self, cx: &Context, changes: Sender<Change>) -> u64;
}

/// The price list has no such item.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{item} is not sold here")]
pub struct UnknownItem {
    /// The item that was asked for.
    pub item: String,
}

/// A price that was set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The item.
    pub item: String,
    /// The new price, in cents.
    pub cents: u32,
}

/// A price list in memory.
#[derive(Debug)]
pub struct PriceList {
    prices: Mutex<BTreeMap<String, u32>>,
    changes: broadcast::Sender<Change>,
}

impl PriceList {
    /// Creates a list of items and their prices.
    pub fn new<const N: usize>(prices: [(&str, u32); N]) -> Self {
        let prices = prices.map(|(item, cents)| (item.to_owned(), cents));
        Self { prices: Mutex::new(prices.into()), changes: broadcast::channel(KEPT_CHANGES).0 }
    }
}

impl Prices for PriceList {
    async fn price(&self, item: String) -> Result<u32, UnknownItem> {
        let prices = self.prices.lock().unwrap_or_else(PoisonError::into_inner);
        prices.get(&item).copied().ok_or(UnknownItem { item })
    }

    async fn set(&self, item: String, cents: u32) {
        self.prices.lock().unwrap_or_else(PoisonError::into_inner).insert(item.clone(), cents);
        // It fails if nobody subscribes.
        let _: Result<usize, _> = self.changes.send(Change { item, cents });
    }

    async fn changes(&self, cx: &Context, mut changes: Sender<Change>) -> u64 {
        let mut source = self.changes.subscribe();
        let mut sent = 0;
        loop {
            let change = tokio::select! {
                change = source.recv() => change,
                () = cx.draining() => return sent,
            };
            let change = match change {
                Ok(change) => change,
                // Only the price that holds in the end matters.
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return sent,
            };
            if changes.send(change).await.is_err() {
                return sent; // the caller takes no more
            }
            sent += 1;
        }
    }
}
