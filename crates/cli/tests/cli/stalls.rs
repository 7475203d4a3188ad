//! The latency that `bench` reports of a server that stands still.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use farcall::Server;
use farcall_test_support::machine;
use serde_json::Value;

use crate::support::{farcall, serve};

/// The time from the first call to the stall, and the length of the stall.
const STALL: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(1));

static FIRST_CALL: OnceLock<Instant> = OnceLock::new();

/// Answers at once, except during the stall: then all calls wait for its end.
async fn answer(_: ()) {
    let stall = *FIRST_CALL.get_or_init(Instant::now) + STALL.0;
    let end = stall + STALL.1;
    let now = Instant::now();
    if now >= stall && now < end {
        tokio::time::sleep_until(end.into()).await;
    }
}

#[test]
fn stall_of_1_s_in_10_s_is_seen_as_callers_see_it() {
    let target = serve(Server::builder().method("Slow.call", answer), "tcp@127.0.0.1:0").to_string();
    let ran = farcall(&["bench", &target, "Slow.call", "--rate", "200", "--for", "10s", "--json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let p99 = report["latency"].as_array().unwrap().iter().find(|pair| pair[0] == "p99").unwrap();
    // A tenth of the calls were due during the stall, and waited for the rest of it: a hundredth for more than 0.9 s.
    let error = (p99[1].as_f64().unwrap() - 0.9).abs();
    // The processes' own delays, on a busy machine, are part of what callers see.
    let late = report["lag"][2].as_f64().unwrap();
    let tolerance = machine::lengthened(Duration::from_millis(45)).as_secs_f64() + late;
    assert!(error <= tolerance || ran.err.contains("these figures do not stand"), "{error} {report:#}");
}
