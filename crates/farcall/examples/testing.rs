//! A unit test without a network: a fake behind a channel, paused time, and a handler called directly.
//!
//! `cargo run -p farcall --example testing`

use std::time::Duration;

use farcall::context::Identity;
use farcall::{Context, testing};

#[farcall::service]
trait Prices {
    /// Returns the price of an item.
    async fn price(&self, cx: &Context, item: String) -> u32;
}

/// The code under test: it gives up on slow prices.
async fn price_or_default(prices: &PricesClient, item: &str) -> u32 {
    prices.price(item.to_owned()).timeout(Duration::from_secs(2)).await.unwrap_or(100)
}

/// A fake is a plain struct.
struct Fake {
    delay: Duration,
}

impl Prices for Fake {
    async fn price(&self, cx: &Context, _item: String) -> u32 {
        tokio::time::sleep(self.delay).await;
        if cx.identity().is_some() { 2 } else { 3 }
    }
}

// Paused time: two seconds pass in no time, and always in the same order. In a test, this line is
// `#[tokio::test(start_paused = true)]`.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let quick = PricesClient::new(testing::channel(Fake { delay: Duration::ZERO }.into_service()));
    assert_eq!(price_or_default(&quick, "tea").await, 3);

    let slow = PricesClient::new(testing::channel(Fake { delay: Duration::from_secs(60) }.into_service()));
    assert_eq!(price_or_default(&slow, "tea").await, 100);

    // The handler itself, with a context of the test's choice.
    let cx = testing::context("Prices.price").identity(Identity::new("ann")).build();
    assert_eq!(Fake { delay: Duration::ZERO }.price(&cx, "tea".to_owned()).await, 2);
    println!("all as expected");
}
