//! [`Shop`]: the service that adds prices.

use farcall::MethodError;
use serde::{Deserialize, Serialize};

use crate::prices::PricesStub;

/// A shop, which asks another service for its prices.
#[farcall::service]
pub trait Shop {
    /// Returns what the items cost together, in cents.
    #[rpc(idempotent)]
    async fn total(&self, items: Vec<String>) -> Result<u32, MethodError<EmptyBasket>>;
}

/// The error of an empty basket.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the basket is empty")]
pub struct EmptyBasket;

/// A shop with these prices.
#[derive(Debug)]
pub struct TeaShop<P> {
    prices: P,
}

impl<P> TeaShop<P> {
    /// Creates a shop. `prices` is a `PricesClient`; in a test it can be a plain struct.
    pub fn new(prices: P) -> Self {
        Self { prices }
    }
}

impl<P: PricesStub + 'static> Shop for TeaShop<P> {
    async fn total(&self, items: Vec<String>) -> Result<u32, MethodError<EmptyBasket>> {
        if items.is_empty() {
            return Err(EmptyBasket.into());
        }
        let mut total: u32 = 0;
        for item in items {
            // The deadline of this call holds for the nested one, and so does its cancellation.
            total = total.saturating_add(self.prices.price(item).await?);
        }
        Ok(total)
    }
}
