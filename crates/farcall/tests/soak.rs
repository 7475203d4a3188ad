//! A million calls over real sockets, a tenth of them cancelled: each gets its own answer, and slots, tasks
//! and memory are released.

#![cfg(all(feature = "server", feature = "client", feature = "macros"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::server::ServerHandle;
use farcall::{Channel, Server};
use tokio::task::JoinSet;

#[farcall::service]
trait Soak {
    async fn square(&self, n: u64) -> u64;
    async fn slow_square(&self, n: u64) -> u64;
}

#[derive(Default)]
struct Squares {
    running: Arc<AtomicU64>,
}

/// Counts itself for as long as it lives: what a handler holds.
struct Running(Arc<AtomicU64>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Soak for Squares {
    async fn square(&self, n: u64) -> u64 {
        n * n
    }

    async fn slow_square(&self, n: u64) -> u64 {
        self.running.fetch_add(1, Ordering::Relaxed);
        let _running = Running(Arc::clone(&self.running));
        if n.is_multiple_of(64) {
            tokio::time::sleep(Duration::from_millis(n % 7)).await;
        } else {
            tokio::task::yield_now().await;
        }
        n * n
    }
}

const WORKERS: u64 = 200;
/// Of each of two kinds of sockets; together a million.
const CALLS: u64 = 500_000;

/// One worker's share: every tenth call is dropped at some point of its way.
async fn work(soak: SoakClient, worker: u64, calls: u64) {
    for call in 0..calls {
        let n = worker * calls + call;
        if n.is_multiple_of(10) {
            let started = soak.slow_square(n).start();
            match n % 30 {
                0 => drop(started),
                10 => {
                    tokio::task::yield_now().await;
                    drop(started);
                }
                _ => {
                    let limit = Duration::from_micros(n % 2000);
                    if let Ok(answer) = tokio::time::timeout(limit, started).await {
                        assert_eq!(answer.unwrap(), n * n);
                    }
                }
            }
        } else if n.is_multiple_of(7) {
            assert_eq!(soak.slow_square(n).await.unwrap(), n * n);
        } else {
            assert_eq!(soak.square(n).await.unwrap(), n * n);
        }
    }
}

async fn all_work(soak: &SoakClient, calls: u64) {
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(work(soak.clone(), worker, calls / WORKERS));
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
}

/// Resident memory in kilobytes.
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Waits for what was cancelled to end, which is soon but not at once.
async fn quiet(channel: &Channel, server: &ServerHandle, running: &AtomicU64) {
    let still = || {
        let in_flight = channel.connection().map_or(0, |connection| connection.in_flight());
        (in_flight, server.in_flight(), running.load(Ordering::Relaxed))
    };
    for _ in 0..3000 {
        if still() == (0, 0, 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("in flight at the client, at the server, handlers: {:?}", still());
}

/// A task counts as alive for a moment after what it did has been seen.
async fn until_tasks_are(expected: usize) {
    let metrics = tokio::runtime::Handle::current().metrics();
    for _ in 0..3000 {
        if metrics.num_alive_tasks() <= expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{expected} tasks became {}", metrics.num_alive_tasks());
}

async fn soak(address: String) {
    let squares = Squares::default();
    let running = Arc::clone(&squares.running);
    let server = Server::builder().service(squares.into_service()).listen(address).bind().await.unwrap();
    let channel = Channel::to(server.addresses().next().unwrap().clone()).unwrap();
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    let soak = SoakClient::new(channel.clone());

    // Warm up until buffers and tables have the size that this load needs.
    all_work(&soak, CALLS / 5).await;
    quiet(&channel, &handle, &running).await;
    let (memory, tasks) = (resident_kb(), tokio::runtime::Handle::current().metrics().num_alive_tasks());

    all_work(&soak, CALLS - CALLS / 5).await;
    quiet(&channel, &handle, &running).await;
    until_tasks_are(tasks).await;
    let memory_after = resident_kb();
    // 400,000 calls that leaked a hundred bytes each would be 40 MB.
    assert!(memory_after < memory + 20_000, "{memory} kB became {memory_after} kB");
    assert_eq!(handle.connections(), 1, "one connection did it all");

    let stats = handle.stats();
    assert!(stats.iter().all(|stats| stats.in_flight == 0), "{stats:?}");
    handle.stop();
    serving.await.unwrap();
    let error = soak.square(1).await.unwrap_err();
    println!("afterwards: {error}");
}

// One test for both, since they would measure each other's memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn million_calls_over_tcp_and_unix_sockets_leak_nothing() {
    soak("tcp@127.0.0.1:0".to_owned()).await;
    let dir = tempfile::tempdir().unwrap();
    soak(format!("unix@{}", dir.path().join("soak").display())).await;
}
