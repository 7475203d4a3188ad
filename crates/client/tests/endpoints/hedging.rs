//! Hedging: a second request while the first is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farcall_client::{Channel, RetryPolicy};
use farcall_discovery::RoundRobin;
use farcall_protocol::describe::MethodInfo;
use farcall_protocol::{Code, Execution, Status};
use farcall_server::{Handler, Request, Response, ResponseFuture, Service};
use futures::future::select;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::support::{CountDrop, MS, Nothing, PATIENCE, Running, over, serve_at, until};

/// Fails after a while, and records the attempt number of each request.
struct Fails {
    after: Duration,
    how: (Code, Execution),
    tries: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Handler for Fails {
    fn call(&self, request: Request) -> ResponseFuture {
        let attempt = request.context().metadata("farcall-attempt").unwrap_or("1").to_owned();
        self.tries.lock().unwrap().push(attempt);
        let (after, (code, execution)) = (self.after, self.how);
        ResponseFuture::new(async move {
            sleep(after).await;
            Response::error(Status::new(code, execution, "requested by the test"))
        })
    }
}

fn failing(name: &'static str, after: Duration, code: Code, execution: Execution) -> Running {
    let fails = Fails { after, how: (code, execution), tries: Arc::default() };
    serve_with(name, fails)
}

fn serve_with(name: &'static str, fails: Fails) -> Running {
    let info = MethodInfo::new("method");
    serve_at(name, "tcp@127.0.0.1:0", |builder| builder.service(Service::new("Late").handler(info, fails)))
}

/// A channel over both servers that makes one try and one hedge.
fn backed_up(servers: [&Running; 2], after: Duration) -> Channel {
    let mode = RetryPolicy::hedge_after(after).max_attempts(1);
    over(&servers).balancer(RoundRobin).retry(mode).build().unwrap()
}

#[tokio::test]
async fn hedge_answers_a_slow_call_and_the_loser_is_cancelled() {
    let quick = serve_at("quick", "tcp@127.0.0.1:0", |builder| {
        builder.method("T.mixed", async |_: Nothing| "quick".to_owned())
    });
    // The same method, which only one of the servers answers soon.
    let stopped = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&stopped);
    let slow = serve_at("slow", "tcp@127.0.0.1:0", move |builder| {
        builder.method("T.mixed", move |_: Nothing| {
            let guard = CountDrop(Arc::clone(&count));
            async move {
                sleep(PATIENCE).await;
                drop(guard);
                "slow".to_owned()
            }
        })
    });
    let channel = over(&[&slow, &quick]).balancer(RoundRobin);
    let channel = channel.retry(RetryPolicy::hedge_after(20 * MS)).build().unwrap();
    let begin = Instant::now();
    for _ in 0..4 {
        let answer = channel.call::<String>("T.mixed", &()).idempotent().timeout(PATIENCE).await;
        assert_eq!(answer.unwrap(), "quick");
    }
    assert!(begin.elapsed() < PATIENCE);
    until("both losers are stopped", || stopped.load(Ordering::Relaxed) >= 2).await;
    // Calls that are not idempotent are not hedged.
    let call = || channel.call::<String>("T.mixed", &()).start();
    let (answer, other) = select(call(), call()).await.factor_first();
    assert_eq!(answer.unwrap(), "quick");
    assert!(timeout(500 * MS, other).await.is_err());
}

#[tokio::test]
async fn error_answer_ends_both_attempts() {
    let slow = failing("slow", 10 * PATIENCE, Code::Internal, Execution::Done);
    let quick = failing("quick", Duration::ZERO, Code::Application, Execution::Done);
    let channel = backed_up([&slow, &quick], 20 * MS);
    for _ in 0..4 {
        let call = channel.call::<()>("Late.method", &()).idempotent();
        let error = timeout(PATIENCE, call).await.expect("the first answer counts").unwrap_err();
        assert_eq!(error.code(), Code::Application);
    }
    until("the losers are stopped", || slow.handle.in_flight() == 0).await;
}

#[tokio::test]
async fn refused_hedge_keeps_the_first_attempts_outcome() {
    let some = failing("some", 500 * MS, Code::Unavailable, Execution::Maybe);
    // Longer than it takes until the other one is asked, if this one is the first.
    let none = failing("none", 4000 * MS, Code::Unavailable, Execution::Refused);
    let channel = backed_up([&some, &none], 20 * MS);
    for _ in 0..2 {
        let error = channel.call::<()>("Late.method", &()).idempotent().await.unwrap_err();
        assert_eq!(error.execution(), Execution::Maybe);
    }
}

#[tokio::test]
async fn hedge_has_its_own_attempt_number() {
    let tries = Arc::<std::sync::Mutex<Vec<String>>>::default();
    let [one, other] = ["one", "other"].map(|name| {
        let how = (Code::Unavailable, Execution::Maybe);
        serve_with(name, Fails { after: 5000 * MS, how, tries: Arc::clone(&tries) })
    });
    let channel = backed_up([&one, &other], 20 * MS);
    channel.call::<()>("Late.method", &()).idempotent().await.unwrap_err();
    // Two servers may begin them in another order.
    let mut tries = tries.lock().unwrap().clone();
    tries.sort();
    assert_eq!(tries, ["1", "2"]);
}
