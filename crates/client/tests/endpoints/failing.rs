//! Failed calls, and their retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farcall_client::{Channel, OutlierDetection, RetryBudget, RetryPolicy, RpcError};
use farcall_discovery::RoundRobin;
use farcall_protocol::{Code, Execution};
use farcall_server::Limits;
use tokio::time::timeout;

use super::support::{MS, PATIENCE, Running, over, serve, serve_at, until, who};

async fn fail(channel: &Channel) -> Result<String, RpcError> {
    Ok(channel.call::<String>("T.fail", &()).await?)
}

/// Two servers of which the first fails like this, and a channel that calls it first.
async fn first_fails(code: Code, execution: Execution, mode: RetryPolicy) -> (Running, Running, Channel) {
    let (a, b) = (serve("a"), serve("b"));
    a.fails(code, execution);
    let builder = over(&[&a, &b]).balancer(RoundRobin).retry(mode);
    let channel = builder.outlier_detection(OutlierDetection::disabled()).build().unwrap();
    // The first endpoint depends on the ports and the picker: call until it is a's turn.
    while who(&channel).await != "b" {}
    (a, b, channel)
}

#[tokio::test]
async fn killed_server_loses_no_idempotent_call() {
    let mut servers = [serve("a"), serve("b"), serve("c")];
    let channel = over(&[&servers[0], &servers[1], &servers[2]]).build().unwrap();
    let answered = Arc::<AtomicUsize>::default();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let (channel, answered) = (channel.clone(), Arc::clone(&answered));
            tokio::spawn(async move {
                for _ in 0..200 {
                    who(&channel).await;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("a part is done", || answered.load(Ordering::Relaxed) > 2000).await;
    assert!(servers[1].calls() > 0);
    servers[1].kill();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(answered.load(Ordering::Relaxed), 10_000);
}

#[tokio::test]
async fn gracefully_stopped_server_loses_no_call() {
    let mut servers = [serve("a"), serve("b")];
    let channel = over(&[&servers[0], &servers[1]]).build().unwrap();
    let answered = Arc::<AtomicUsize>::default();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let (channel, answered) = (channel.clone(), Arc::clone(&answered));
            tokio::spawn(async move {
                for _ in 0..200 {
                    // Not idempotent: only calls that were not executed are retried.
                    channel.call::<String>("T.who", &()).await.unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("a part is done", || answered.load(Ordering::Relaxed) > 1000).await;
    servers[0].handle.stop();
    for caller in callers {
        caller.await.unwrap();
    }
    servers[0].kill();
}

#[tokio::test]
async fn refused_call_fails_over() {
    let codes = [Code::Unavailable, Code::ResourceExhausted, Code::Unimplemented];
    for code in [&codes[..], &[Code::Cancelled, Code::DeadlineExceeded, Code::Internal]].concat() {
        let (a, _b, channel) = first_fails(code, Execution::Refused, RetryPolicy::fail_over()).await;
        assert_eq!(fail(&channel).await.unwrap(), "b", "{code}");
        assert_eq!(fail(&channel).await.unwrap(), "b", "{code}");
        assert!(a.calls() > 0);
    }
}

#[tokio::test]
async fn permanent_refusal_is_not_retried() {
    for code in [Code::InvalidArgument, Code::Unauthenticated, Code::PermissionDenied] {
        let (a, b, channel) = first_fails(code, Execution::Refused, RetryPolicy::fail_over()).await;
        b.fails(code, Execution::Refused);
        let before = a.calls() + b.calls();
        assert_eq!(fail(&channel).await.unwrap_err().code(), code);
        assert_eq!(a.calls() + b.calls(), before + 1);
    }
}

#[tokio::test]
async fn possibly_executed_call_is_retried_only_if_idempotent() {
    let (a, b, channel) = first_fails(Code::Cancelled, Execution::Maybe, RetryPolicy::fail_over()).await;
    b.fails(Code::Cancelled, Execution::Maybe);
    let before = a.calls() + b.calls();
    assert_eq!(fail(&channel).await.unwrap_err().execution(), Execution::Maybe);
    assert_eq!(a.calls() + b.calls(), before + 1);
    b.recovers();
    for _ in 0..4 {
        assert_eq!(channel.call::<String>("T.fail", &()).idempotent().await.unwrap(), "b");
    }
    // The same holds for any other code.
    a.fails(Code::Internal, Execution::Maybe);
    for _ in 0..4 {
        assert_eq!(channel.call::<String>("T.fail", &()).idempotent().await.unwrap(), "b");
    }
}

#[tokio::test]
async fn call_that_is_idempotent_at_one_server_is_repeated_there_only() {
    let (a, b, channel) = first_fails(Code::Internal, Execution::Maybe, RetryPolicy::fail_over()).await;
    b.fails(Code::Internal, Execution::Maybe);
    for _ in 0..4 {
        let before = (a.calls(), b.calls());
        let call = channel.call::<String>("T.fail", &()).idempotent_at_same_server();
        let error = RpcError::from(call.await.unwrap_err());
        assert_eq!((error.execution(), error.attempts()), (Execution::Maybe, 3));
        // All attempts went to one of the two.
        let made = (a.calls() - before.0, b.calls() - before.1);
        assert!(made == (3, 0) || made == (0, 3), "{made:?}");
    }
    // It was not begun there, so another server may take it.
    a.fails(Code::Unavailable, Execution::Refused);
    b.recovers();
    for _ in 0..4 {
        let call = channel.call::<String>("T.fail", &()).idempotent_at_same_server();
        assert_eq!(call.await.unwrap(), "b");
    }
}

#[tokio::test]
async fn call_that_is_idempotent_at_one_server_is_not_taken_over_from_a_killed_one() {
    for policy in [RetryPolicy::fail_over(), RetryPolicy::hedge_after(MS)] {
        let mut servers = [serve("a"), serve("b")];
        let channel = over(&[&servers[0], &servers[1]]).retry(policy).build().unwrap();
        let call = channel.call::<String>("T.slow", &()).idempotent_at_same_server().start();
        until("it runs", || servers[0].calls() + servers[1].calls() == 1).await;
        let (killed, other) = if servers[0].calls() == 1 { (0, 1) } else { (1, 0) };
        servers[killed].kill();
        let error = timeout(PATIENCE, call).await.unwrap().unwrap_err();
        assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe));
        assert_eq!(servers[other].calls(), 0);
    }
}

#[tokio::test]
async fn executed_call_is_never_retried() {
    let (a, b, channel) = first_fails(Code::Internal, Execution::Done, RetryPolicy::fail_over()).await;
    b.fails(Code::Internal, Execution::Done);
    let before = a.calls() + b.calls();
    let error = channel.call::<String>("T.fail", &()).idempotent().await.unwrap_err();
    assert_eq!(error.execution(), Execution::Done);
    assert_eq!(a.calls() + b.calls(), before + 1);
}

#[tokio::test]
async fn fail_fast_makes_one_try() {
    let (a, b, channel) = first_fails(Code::Unavailable, Execution::Refused, RetryPolicy::fail_fast()).await;
    b.fails(Code::Unavailable, Execution::Refused);
    let before = a.calls() + b.calls();
    fail(&channel).await.unwrap_err();
    assert_eq!(a.calls() + b.calls(), before + 1);
}

#[tokio::test]
async fn retry_same_stays_at_one_endpoint() {
    let (a, b, channel) =
        first_fails(Code::ResourceExhausted, Execution::Refused, RetryPolicy::retry_same().max_attempts(4))
            .await;
    b.fails(Code::ResourceExhausted, Execution::Refused);
    let before = [a.calls(), b.calls()];
    fail(&channel).await.unwrap_err();
    let mut made = [a.calls() - before[0], b.calls() - before[1]];
    made.sort_unstable();
    assert_eq!(made, [0, 4]);
    // The same with a single endpoint.
    let one =
        Channel::builder().to(a.address.clone()).retry(RetryPolicy::retry_same().max_attempts(3)).build();
    a.fails(Code::ResourceExhausted, Execution::Refused);
    let before = a.calls();
    fail(&one.unwrap()).await.unwrap_err();
    assert_eq!(a.calls() - before, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_same_fails_at_once_if_no_endpoint_is_reachable() {
    let mut dead = [serve("a"), serve("b")];
    let channel = over(&[&dead[0], &dead[1]]).retry(RetryPolicy::retry_same()).build().unwrap();
    dead.iter_mut().for_each(Running::kill);
    let call = tokio::spawn(async move { channel.call::<String>("T.who", &()).await.unwrap_err() });
    let error = timeout(PATIENCE, call).await.expect("it ends").unwrap();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
}

#[tokio::test]
async fn expired_call_takes_nothing_from_the_retry_budget() {
    let servers = [serve("a"), serve("b")];
    let budget = RetryBudget::new(0.0, 10.0);
    let channel = over(&[&servers[0], &servers[1]])
        .retry_budget(budget)
        .outlier_detection(OutlierDetection::disabled());
    let channel = channel.build().unwrap();
    for _ in 0..10 {
        channel.call::<String>("T.slow", &()).idempotent().timeout(20 * MS).await.unwrap_err();
    }
    assert!(channel.retries_left() > 99.0, "{}", channel.retries_left());
}

#[tokio::test]
async fn call_can_override_the_retry_policy() {
    let (a, b, channel) = first_fails(Code::Unavailable, Execution::Refused, RetryPolicy::fail_fast()).await;
    let call = || channel.call::<String>("T.fail", &()).retry(RetryPolicy::fail_over());
    assert_eq!(call().await.unwrap(), "b");
    assert_eq!(call().await.unwrap(), "b");
    b.fails(Code::Unavailable, Execution::Refused);
    let before = a.calls() + b.calls();
    call().await.unwrap_err();
    assert_eq!(a.calls() + b.calls(), before + 2, "each was asked once");
}

#[tokio::test]
async fn retry_budget_bounds_the_retries_of_all_calls() {
    let servers = [serve("a"), serve("b"), serve("c")];
    for server in &servers {
        server.fails(Code::Unavailable, Execution::Refused);
    }
    let builder =
        over(&[&servers[0], &servers[1], &servers[2]]).outlier_detection(OutlierDetection::disabled());
    let channel = builder.retry_budget(RetryBudget::new(0.2, 0.0)).build().unwrap();
    for _ in 0..100 {
        fail(&channel).await.unwrap_err();
    }
    let calls: usize = servers.iter().map(Running::calls).sum();
    assert!((101..=120).contains(&calls), "{calls}");
}

#[tokio::test]
async fn dead_endpoint_fails_no_call() {
    let alive = serve("alive");
    let mut dead = [serve("dead"), serve("dead too")];
    let channel = over(&[&alive, &dead[0], &dead[1]]).balancer(RoundRobin);
    let channel = channel.retry_budget(RetryBudget::new(0.0, 0.0)).build().unwrap();
    dead.iter_mut().for_each(Running::kill);
    for _ in 0..100 {
        assert_eq!(channel.call::<String>("T.who", &()).await.unwrap(), "alive");
    }
}

#[tokio::test]
async fn error_of_all_dead_endpoints_lists_those_tried() {
    let mut dead = [serve("a"), serve("b")];
    let channel = over(&[&dead[0], &dead[1]]).build().unwrap();
    dead.iter_mut().for_each(Running::kill);
    let error = channel.call::<String>("T.who", &()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
    assert!(error.to_string().starts_with("connecting to tcp@127."), "{error}");
    let error = error.rpc().unwrap();
    let (tried, mut wanted) = (error.tried_endpoints(), [dead[0].address.clone(), dead[1].address.clone()]);
    if tried.first() != wanted.first() {
        wanted.reverse();
    }
    assert_eq!((error.method(), error.attempts(), tried), (Some("T.who"), 2, &wanted[..]));
    let [first, second] = wanted;
    assert!(error.to_string().ends_with(&format!("after 2 attempts: {first}, {second}")), "{error}");
}

#[tokio::test]
async fn server_at_its_connection_limit_is_skipped() {
    let full =
        serve_at("full", "tcp@127.0.0.1:0", |builder| builder.limits(Limits::default().max_connections(1)));
    let free = serve("free");
    let first = Channel::to(full.address.clone()).unwrap();
    first.connect().await.unwrap();
    let channel = over(&[&full, &free]).balancer(RoundRobin).build().unwrap();
    for _ in 0..10 {
        assert_eq!(channel.call::<String>("T.who", &()).await.unwrap(), "free");
    }
}

#[tokio::test]
async fn one_way_calls_skip_unconnected_endpoints() {
    let alive = serve("alive");
    let mut dead = serve("dead");
    let channel = over(&[&alive, &dead]).balancer(RoundRobin).build().unwrap();
    dead.kill();
    for _ in 0..10 {
        channel.notify("T.who", &()).await.unwrap();
    }
    until("all have come", || alive.calls() == 10).await;
}
