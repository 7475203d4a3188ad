//! Connections that end by a goaway before calls over them have begun, more often than calls have attempts.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps an error")]

use std::time::Duration;

use farcall::client::{Channel, RetryBudget, RetryPolicy};
use farcall::protocol::{Code, Execution};
use farcall::server::Limits;
use farcall::{RpcError, Sender, Server};
use farcall_sim::{Cluster, Link, Sim};

/// Connections take calls for two seconds, or a tenth more or less.
const AGE: Duration = Duration::from_secs(2);
/// The bytes of a call: two of them pass in a second, so that each connection takes four or so.
const CALL_BYTES: usize = 5000;
const BYTES_PER_SECOND: u64 = 10_000;

/// Returns a channel to servers of these names, whose calls have one attempt and no retry budget.
fn channel_over_slow_links(cluster: &Cluster, names: &[&str]) -> Channel {
    cluster.links(Link::default().bandwidth(BYTES_PER_SECOND));
    let describe = |_: &_| {
        let server = Server::builder().limits(Limits::default().max_connection_age(AGE));
        let server = server.method("T.take", async |(_,): (String,)| ());
        server.stream_out("T.items", async |(_,): (String,), mut out: Sender<u64>| {
            let _ = out.send(7).await;
        })
    };
    let servers: Vec<_> = names.iter().map(|name| cluster.server(name, describe).unwrap()).collect();
    let client = cluster.node("client").channel_builder();
    let client =
        client.retry(RetryPolicy::fail_over().max_attempts(1)).retry_budget(RetryBudget::new(0.0, 0.0));
    servers.iter().fold(client, |client, server| client.to(server.node().address())).build().unwrap()
}

/// Makes 20 calls at once for each endpoint, which occupy the connections to it for ten seconds. All must be answered.
fn answer_all_that_goaways_refuse(
    endpoints: &'static [&'static str],
    call: impl AsyncFn(Channel) -> Result<(), String> + Copy + 'static,
) {
    Sim::seed(1).run(async move |cluster| {
        let channel = channel_over_slow_links(&cluster, endpoints);
        let calls = (0..20 * endpoints.len()).map(|_| call(channel.clone()));
        for outcome in futures::future::join_all(calls).await {
            outcome.unwrap();
        }
        assert!(channel.metrics().retries > 20, "{:?}", channel.metrics());
    });
}

fn body(bytes: usize) -> (String,) {
    ("x".repeat(bytes),)
}

#[test]
fn calls_are_refused_by_more_goaways_than_they_have_attempts() {
    for endpoints in [&["a"][..], &["a", "b"]] {
        answer_all_that_goaways_refuse(endpoints, async |channel| {
            let call = channel.call::<()>("T.take", &body(CALL_BYTES)).timeout(Duration::from_secs(60));
            call.await.map_err(|error| error.to_string())
        });
    }
}

#[test]
fn streams_are_refused_by_more_goaways_than_they_have_attempts() {
    for endpoints in [&["a"][..], &["a", "b"]] {
        answer_all_that_goaways_refuse(endpoints, async |channel| {
            let call = channel.call::<()>("T.items", &body(CALL_BYTES)).receive::<u64>();
            let mut items = call.timeout(Duration::from_secs(60)).await.map_err(|error| error.to_string())?;
            while let Some(item) = items.next().await {
                item.map_err(|error| error.to_string())?;
            }
            Ok(())
        });
    }
}

#[test]
fn broadcasts_are_refused_by_more_goaways_than_they_have_attempts() {
    for endpoints in [&["a"][..], &["a", "b"]] {
        answer_all_that_goaways_refuse(endpoints, async |channel| {
            let call = channel.call::<()>("T.take", &body(CALL_BYTES)).timeout(Duration::from_secs(120));
            call.broadcast().await.map(drop).map_err(|error| error.to_string())
        });
    }
}

#[test]
fn call_that_no_connection_lasts_for_fails_in_the_end() {
    // It would take five seconds.
    let large = body(10 * CALL_BYTES);
    Sim::seed(1).run(async move |cluster| {
        let channel = channel_over_slow_links(&cluster, &["a"]);
        let error = RpcError::from(channel.call::<()>("T.take", &large).await.unwrap_err());
        assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Refused), "{error}");
        assert_eq!(error.attempts(), 21, "{error}");
        let broadcast = channel.call::<()>("T.take", &large).broadcast().await.unwrap_err();
        let error = broadcast.first().error.rpc().unwrap();
        assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Refused), "{error}");
    });
}
