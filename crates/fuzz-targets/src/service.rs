//! The server that sessions and the gateway call: plain methods, those that wait and panic, and streams in both directions.

use std::time::Duration;

use farcall_protocol::Status;
use farcall_server::{Limits, Receiver, Sender, Server, ServerBuilder};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

/// The methods, and two names that are none.
pub(crate) const METHODS: [&str; 9] = [
    "T.echo",
    "T.wait",
    "T.fail",
    "T.note",
    "T.count",
    "T.sum",
    "T.exchange",
    "farcall.health",
    "Nothing.here",
];
/// The most items that a call asks for.
const MAX_ITEMS: u64 = 100;
/// The longest time that a call waits, in milliseconds.
const MAX_WAIT_MS: u64 = 10_000;

#[derive(Deserialize)]
struct Any {
    #[serde(default)]
    value: Value,
}

#[derive(Deserialize)]
struct Number {
    #[serde(default)]
    n: u64,
}

/// Returns a builder of the server, with small limits.
pub(crate) fn server() -> ServerBuilder {
    let limits = Limits::default()
        .max_frame_bytes(16 * 1024)
        .max_in_flight(8)
        .max_streams(4)
        .stream_window(1024)
        .handle_timeout(Duration::from_secs(20));
    Server::builder()
        .limits(limits)
        .method("T.echo", async |any: Any| any.value)
        .method("T.wait", async |number: Number| {
            sleep(Duration::from_millis(number.n % MAX_WAIT_MS)).await;
            number.n
        })
        .try_method("T.fail", async |any: Any| Err::<(), _>(any.value))
        .method("T.note", async |_: Any| ())
        .try_stream_out("T.count", async |number: Number, mut out: Sender<u64>| {
            for n in 0..number.n % MAX_ITEMS {
                out.send(n).await?;
            }
            Ok::<_, Status>(number.n)
        })
        .try_stream_in("T.sum", async |_: Any, mut items: Receiver<i64>| {
            let mut sum = 0_i64;
            while let Some(item) = items.recv().await {
                sum = sum.wrapping_add(item?);
            }
            Ok::<_, Status>(sum)
        })
        .try_stream_both("T.exchange", async |_: Any, mut items: Receiver<Value>, mut out: Sender<Value>| {
            let mut count = 0_u64;
            while let Some(item) = items.recv().await {
                out.send(item?).await?;
                count += 1;
            }
            Ok::<_, Status>(count)
        })
}
