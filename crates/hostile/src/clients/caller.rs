//! The client in Rust, as the child process of a trial; those in Python and JavaScript do the same.

use std::time::{Duration, Instant};

use farcall::Channel;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The time limit of each call.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
/// The calls of a round, which are made at the same time.
const CALLS: usize = 8;
/// The pause between two rounds.
const PAUSE: Duration = Duration::from_millis(20);

/// Makes calls to an address for a while, and prints what became of them as a line of JSON.
pub(crate) fn call_for_a_while(address: &str, seconds: u64) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let channel = Channel::to(address)?;
        let end = Instant::now() + Duration::from_secs(seconds);
        let (mut calls, mut answers, mut wrong, mut slowest) = (0, 0, 0, Duration::ZERO);
        while Instant::now() < end {
            let mut round = JoinSet::new();
            for number in 0..CALLS {
                let channel = channel.clone();
                round.spawn(async move {
                    let start = Instant::now();
                    let answer = if number == 0 { stream(&channel).await } else { call(&channel).await };
                    (start.elapsed(), answer)
                });
            }
            for (took, answer) in round.join_all().await {
                calls += 1;
                slowest = slowest.max(took);
                answers += usize::from(answer.is_some());
                wrong += usize::from(answer.is_some_and(|answer| answer != 42));
            }
            sleep(PAUSE).await;
        }
        anyhow::Ok(json!({
            "calls": calls, "answers": answers, "wrong": wrong, "unexpected": null,
            "slowest_ms": slowest.as_secs_f64() * 1e3,
        }))
    })?;
    println!("{outcome}");
    Ok(())
}

async fn call(channel: &Channel) -> Option<i64> {
    channel.call::<i64>("Arith.multiply", &json!({"a": 6, "b": 7})).timeout(TIMEOUT).await.ok()
}

/// Makes a streaming call whose items are not taken, and returns its final value.
async fn stream(channel: &Channel) -> Option<i64> {
    let call = channel.call::<i64>("Feed.count", &json!({"from": 0, "to": 3})).timeout(TIMEOUT);
    let items = call.receive::<serde_json::Value>().await.ok()?;
    sleep(TIMEOUT / 2).await;
    items.finish().await.ok()
}
