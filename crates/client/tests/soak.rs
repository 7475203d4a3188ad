//! 100,000 calls over a real socket, some of them dropped and some expired.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farcall_client::{CallError, Channel};
use farcall_protocol::Code;
use farcall_server::{Limits, Server};
use farcall_test_support::wait::PATIENCE;
use tokio::time::{Duration, sleep, timeout};

const CALLS: usize = 100_000;
const TASKS: usize = 200;
/// Fewer than the tasks, so that some calls wait for a slot.
const PLACES: usize = 128;

#[derive(serde::Deserialize)]
struct Echo {
    n: u64,
    sleep_us: u64,
}

#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    dropped: AtomicUsize,
    late: AtomicUsize,
}

impl Tally {
    fn ended(&self) -> usize {
        [&self.answered, &self.dropped, &self.late].map(|count| count.load(Ordering::Relaxed)).iter().sum()
    }

    fn count(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

async fn some_calls(channel: Channel, task: usize, tally: Arc<Tally>) {
    let mut random = fastrand::Rng::with_seed(task as u64);
    for number in 0..CALLS / TASKS {
        let n = (task * CALLS + number) as u64;
        let sleep_us = if random.u8(..8) == 0 { random.u64(1..3000) } else { 0 };
        // Some of the requests are large enough to fill the socket.
        let padding = if random.u8(..100) == 0 { random.usize(..50_000) } else { random.usize(..50) };
        let arguments = serde_json::json!({"n": n, "sleep_us": sleep_us, "padding": "x".repeat(padding)});
        let mut call = channel.call::<u64>("Soak.echo", &arguments);
        if random.u8(..20) == 0 {
            call = call.timeout(Duration::from_micros(random.u64(..4000)));
        }
        let call = call.start();
        if random.u8(..10) == 0 {
            match random.u8(..3) {
                0 => drop(call),
                1 => {
                    tokio::task::yield_now().await;
                    drop(call);
                }
                _ => {
                    let _ = timeout(Duration::from_micros(random.u64(..2000)), call).await;
                }
            }
            Tally::count(&tally.dropped);
            continue;
        }
        match call.await {
            Ok(answer) => {
                assert_eq!(answer, n, "an answer reached another call");
                Tally::count(&tally.answered);
            }
            Err(CallError::Rpc(error)) if error.code() == Code::DeadlineExceeded => Tally::count(&tally.late),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_gets_its_own_answer_and_releases_its_slot() {
    let server = Server::builder()
        .method("Soak.echo", |echo: Echo| async move {
            if echo.sleep_us > 0 {
                sleep(Duration::from_micros(echo.sleep_us)).await;
            }
            echo.n
        })
        .limits(Limits::default().max_in_flight(PLACES))
        .listen("tcp@127.0.0.1:0")
        .bind()
        .await
        .unwrap();
    let address = server.addresses().next().unwrap().to_string();
    let server_handle = server.handle();
    tokio::spawn(server.serve());

    let channel = Channel::to(&*address).unwrap();
    let tally = Arc::new(Tally::default());
    let tasks: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(some_calls(channel.clone(), task, Arc::clone(&tally)))).collect();
    let all = async {
        for task in tasks {
            task.await.unwrap();
        }
    };
    tokio::pin!(all);
    let mut seen = 0;
    // However slow the machine is, some call ends every minute.
    while timeout(PATIENCE, &mut all).await.is_err() {
        let ended = tally.ended();
        assert!(ended > seen, "calls hang: {ended} have ended");
        seen = ended;
    }

    let [answered, dropped, late] =
        [&tally.answered, &tally.dropped, &tally.late].map(|count| count.load(Ordering::Relaxed));
    println!("{answered} answered, {dropped} dropped, {late} out of time");
    assert_eq!(answered + dropped + late, CALLS);
    assert!(answered > CALLS / 2 && dropped > CALLS / 20 && late > 0);
    let connection = channel.connection().expect("one connection did all of it");
    assert_eq!(server_handle.connections(), 1, "all that came at once waited for one dial");
    let nothing_left = async {
        while connection.in_flight() > 0 || server_handle.in_flight() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, nothing_left).await.unwrap_or_else(|_| {
        panic!("left in flight: {} here, {} there", connection.in_flight(), server_handle.in_flight())
    });
    // Every slot is free again. The calls last until all have been made.
    let calls: Vec<_> = (0..PLACES as u64)
        .map(|n| {
            channel.call::<u64>("Soak.echo", &serde_json::json!({"n": n, "sleep_us": 3_000_000})).start()
        })
        .collect();
    assert_eq!(connection.in_flight(), PLACES);
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), n as u64);
    }
}
