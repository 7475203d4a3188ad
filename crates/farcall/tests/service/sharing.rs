//! One implementation in several places: behind an `Arc`, and in several servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farcall::Context;
use farcall::protocol::Codec;

use crate::running::channel_to;

#[farcall::service]
trait Counter {
    async fn add(&self, count: u64) -> Result<u64, String>;
    async fn method(&self, cx: &Context) -> String;
    async fn twice(&self, mut count: u64) -> u64 {
        count *= 2;
        self.add(count).await.unwrap_or_default()
    }
}

#[derive(Default)]
struct Total(AtomicU64);

impl Counter for Total {
    async fn add(&self, count: u64) -> Result<u64, String> {
        Ok(self.0.fetch_add(count, Ordering::Relaxed) + count)
    }

    async fn method(&self, cx: &Context) -> String {
        cx.method().to_owned()
    }

    async fn twice(&self, count: u64) -> u64 {
        self.0.load(Ordering::Relaxed) + count
    }
}

#[tokio::test]
async fn shared_service_counts_the_calls_of_two_servers() {
    let total = Arc::new(Total::default());
    let one = CounterClient::new(channel_to(Arc::clone(&total).into_service(), Codec::default()).await);
    let other = CounterClient::new(channel_to(Arc::clone(&total).into_service(), Codec::default()).await);
    assert_eq!(one.add(2).await.unwrap(), 2);
    assert_eq!(other.add(3).await.unwrap(), 5);
    assert_eq!(total.0.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn shared_service_passes_the_context_and_overridden_methods_on() {
    let counter =
        CounterClient::new(channel_to(Arc::new(Total::default()).into_service(), Codec::default()).await);
    assert_eq!(counter.method().await.unwrap(), "Counter.method");
    assert_eq!(counter.twice(7).await.unwrap(), 7, "the implementation's, not the provided one");
}
