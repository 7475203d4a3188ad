//! A server is killed in the middle of 100,000 calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use demo::services::{ArithClient, EchoClient};
use farcall::Channel;
use futures::{StreamExt as _, stream};
use tokio::task::JoinSet;

use crate::processes::{Registry, client, servers, until};

const CALLS: i64 = 100_000;
const TASKS: i64 = 4;
/// Of each task.
const AT_ONCE: usize = 32;

/// The number of answers of each server.
type Answers = HashMap<u32, u64>;

#[tokio::test(flavor = "multi_thread")]
async fn killed_server_loses_none_of_100_000_idempotent_calls() {
    let registry = Registry::start(&["--ttl", "2s", "--heartbeat", "500ms"]);
    let mut servers = servers(3, &registry).await;
    let channel = client(&registry.url());
    channel.connect().await.unwrap();
    let begun = Instant::now();
    let done = Arc::new(AtomicI64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        tasks.spawn(calls(channel.clone(), Arc::clone(&done), task));
    }

    let victim = servers.remove(1);
    let (pid, address) = (victim.pid(), victim.address.clone());
    let in_flight = || {
        let endpoints = channel.endpoints();
        endpoints
            .iter()
            .find(|status| status.endpoint.address.to_string() == address)
            .map_or(0, |status| status.in_flight)
    };
    // In the middle of the load, while the server has calls in flight.
    let middle = async || done.load(Ordering::Relaxed) > CALLS / 3 && in_flight() > 0;
    until("the calls are on their way", middle).await;
    let (before, under_way) = (done.load(Ordering::Relaxed), in_flight());
    victim.kill();
    assert!(before < CALLS * 9 / 10, "they were nearly done: {before}");

    let mut answers = Answers::new();
    while let Some(task) = tasks.join_next().await {
        for (pid, answered) in task.unwrap() {
            *answers.entry(pid).or_default() += answered;
        }
    }
    let took = begun.elapsed();
    println!(
        "{CALLS} calls in {took:?}; at {before} one of three servers was killed, with {under_way} calls; \
         answers by process, a tenth of all: {answers:?}"
    );
    assert_eq!(done.load(Ordering::Relaxed), CALLS);
    assert!(answers[&pid] > 0, "the server that was killed has answered none: {answers:?}");
    for server in &servers {
        // The others answered as many before the kill, and more after it.
        assert!(answers[&server.pid()] > answers[&pid], "{answers:?}");
    }
}

/// Makes a task's share of the calls; every tenth returns the server that answered it.
async fn calls(channel: Channel, done: Arc<AtomicI64>, task: i64) -> Answers {
    let (arith, echo) = (ArithClient::new(channel.clone()), EchoClient::new(channel));
    let numbers = (0..CALLS).filter(|number| number % TASKS == task);
    let answered = stream::iter(numbers).map(|number| {
        let (arith, echo, done) = (&arith, &echo, &done);
        async move {
            let pid = if number % 10 < 9 {
                let product = arith.multiply(number, number + 1).await;
                assert_eq!(product.unwrap(), number * (number + 1));
                None
            } else {
                Some(echo.whoami().await.unwrap().pid)
            };
            done.fetch_add(1, Ordering::Relaxed);
            pid
        }
    });
    let answers = Answers::new();
    answered
        .buffer_unordered(AT_ONCE)
        .fold(answers, async |mut answers, pid| {
            if let Some(pid) = pid {
                *answers.entry(pid).or_default() += 1;
            }
            answers
        })
        .await
}
