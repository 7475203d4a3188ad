//! Chapter 2: a method that fails, and what its caller sees.

use farcall::{CallError, Channel};
use serde::{Deserialize, Serialize};

/// The prices of items, in cents.
#[farcall::service]
pub trait Prices {
    /// Returns the price of an item.
    #[rpc(idempotent)]
    async fn price(&self, item: String) -> Result<u32, UnknownItem>;
}

/// The price list has no such item.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{item} is not sold here")]
pub struct UnknownItem {
    /// The item that was asked for.
    pub item: String,
}

/// The loop of `buy`.
///
/// # Errors
///
/// The server cannot be reached.
pub async fn buy(items: Vec<String>) -> anyhow::Result<()> {
    let prices = PricesClient::new(Channel::to("tcp@127.0.0.1:7001")?);
    for item in items {
        match prices.price(item).await {
            Ok(cents) => println!("{cents}"),
            Err(CallError::Application(UnknownItem { item })) => println!("{item} is not sold here"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
