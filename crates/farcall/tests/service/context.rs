//! The context of a call, and its inheritance by nested calls.

use std::time::Duration;

use farcall::protocol::Codec;
use farcall::{Channel, Context};

use crate::running::channel_to;

#[farcall::service]
trait Inner {
    /// Returns the remaining time in milliseconds, and the metadata `k`.
    async fn seen(&self, cx: &Context) -> (Option<u128>, Option<String>);
    async fn call(&self, _: &Context, cx: String) -> String;
    #[rpc(idempotent)]
    async fn twice(&self, cx: &Context) -> bool;
    #[rpc(idempotent = "same_server")]
    async fn here(&self, cx: &Context) -> bool;
    async fn once(&self, cx: &Context) -> bool;
    async fn hang(&self, cx: &Context) -> ();
}

struct Witness;

impl Inner for Witness {
    async fn seen(&self, cx: &Context) -> (Option<u128>, Option<String>) {
        (cx.remaining().map(|left| left.as_millis()), cx.metadata("k").map(str::to_owned))
    }

    async fn call(&self, context: &Context, cx: String) -> String {
        format!("{} {cx}", context.method())
    }

    async fn twice(&self, cx: &Context) -> bool {
        cx.is_idempotent()
    }

    async fn here(&self, cx: &Context) -> bool {
        cx.is_idempotent()
    }

    async fn once(&self, cx: &Context) -> bool {
        cx.is_idempotent()
    }

    async fn hang(&self, _cx: &Context) {
        std::future::pending::<()>().await;
    }
}

#[farcall::service]
trait Outer {
    async fn ask(&self) -> (Option<u128>, Option<String>);
    async fn hang(&self) -> String;
}

/// Passes calls on, and nothing along with them.
struct Middle(InnerClient);

impl Outer for Middle {
    async fn ask(&self) -> (Option<u128>, Option<String>) {
        self.0.seen().await.unwrap()
    }

    async fn hang(&self) -> String {
        self.0.hang().await.unwrap_err().to_string()
    }
}

async fn inner() -> InnerClient {
    InnerClient::new(channel_to(Witness.into_service(), Codec::default()).await)
}

async fn outer() -> OuterClient {
    let channel: Channel = channel_to(Middle(inner().await).into_service(), Codec::default()).await;
    OuterClient::new(channel)
}

#[tokio::test(start_paused = true)]
async fn method_sees_its_deadline_and_metadata() {
    let inner = inner().await;
    assert_eq!(inner.seen().await.unwrap(), (None, None));
    let seen = inner.seen().timeout(Duration::from_secs(5)).metadata("k", "v").await.unwrap();
    assert_eq!(seen, (Some(5000), Some("v".to_owned())));
}

#[tokio::test]
async fn context_parameter_is_not_a_wire_argument() {
    let seen = inner().await.call("an argument called cx".to_owned()).await.unwrap();
    assert_eq!(seen, "Inner.call an argument called cx");
}

#[tokio::test]
async fn idempotent_attribute_marks_its_calls() {
    let inner = inner().await;
    assert!(inner.twice().await.unwrap());
    assert!(!inner.once().await.unwrap());
    assert!(inner.once().idempotent().await.unwrap());
    // A proxy may repeat a call with the flag at another server.
    assert!(!inner.here().await.unwrap());
    assert!(inner.here().idempotent().await.unwrap());
    assert!(inner.once().idempotent().idempotent_at_same_server().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn nested_call_inherits_deadline_and_metadata() {
    let outer = outer().await;
    assert_eq!(outer.ask().await.unwrap(), (None, None));
    let seen = outer.ask().timeout(Duration::from_secs(5)).metadata("k", "v").await.unwrap();
    assert_eq!(seen, (Some(5000), Some("v".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn nested_call_ends_at_the_outer_deadline() {
    let outer = outer().await;
    let begun = tokio::time::Instant::now();
    let error = outer.hang().timeout(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.code(), farcall::Code::DeadlineExceeded);
    assert_eq!(begun.elapsed().as_secs(), 5);
}
