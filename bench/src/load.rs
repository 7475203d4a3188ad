//! The load: calls in a closed loop, so many at once, and what they took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::scenario::{Scenario, Work};

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) peer: String,
    pub(crate) scenario: String,
    pub(crate) calls_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// CPU time of both processes, in microseconds a call.
    pub(crate) cpu_us: f64,
    /// The larger of the two processes' peak memory.
    pub(crate) rss_kb: u64,
}

/// A client of a peer: one connection, on which many calls are in flight at once.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    fn multiply(&self, a: i64, b: i64) -> impl Future<Output = anyhow::Result<i64>> + Send;
    fn echo(&self, data: Vec<u8>) -> impl Future<Output = anyhow::Result<Vec<u8>>> + Send;
}

/// Counts calls and their latencies while the measured time runs.
#[derive(Default)]
pub(crate) struct Meter {
    counting: AtomicBool,
    stopped: AtomicBool,
    calls: AtomicU64,
}

impl Meter {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    pub(crate) fn is_counting(&self) -> bool {
        self.counting.load(Relaxed)
    }

    pub(crate) fn count(&self, calls: u64) {
        self.calls.fetch_add(calls, Relaxed);
    }
}

/// What a loop of calls leaves behind.
pub(crate) type Latencies = Histogram<u64>;

pub(crate) fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are legal")
}

/// Drives `loops` (tasks that call until the meter stops) through warm-up and measurement.
pub(crate) async fn measure(
    meter: Arc<Meter>,
    mut loops: JoinSet<anyhow::Result<Latencies>>,
    warm_up: Duration,
    time: Duration,
    server: u32,
) -> anyhow::Result<(f64, Latencies, f64)> {
    tokio::time::sleep(warm_up).await;
    let cpu = crate::process::cpu_time(server)? + crate::process::cpu_time(std::process::id())?;
    let began = Instant::now();
    meter.counting.store(true, Relaxed);
    tokio::time::sleep(time).await;
    meter.counting.store(false, Relaxed);
    let took = began.elapsed();
    let cpu = crate::process::cpu_time(server)? + crate::process::cpu_time(std::process::id())? - cpu;
    meter.stopped.store(true, Relaxed);
    let mut all = latencies();
    while let Some(ended) = loops.join_next().await {
        all.add(ended??)?;
    }
    let calls = meter.calls.load(Relaxed);
    anyhow::ensure!(calls > 0, "no call ended within {time:?}");
    Ok((calls as f64 / took.as_secs_f64(), all, cpu.as_secs_f64() * 1e6 / calls as f64))
}

/// Starts the scenario's loops on `clients`, one for each connection.
pub(crate) fn start<C: Client>(
    clients: Vec<C>,
    scenario: Scenario,
    meter: &Arc<Meter>,
) -> JoinSet<anyhow::Result<Latencies>> {
    let mut loops = JoinSet::new();
    for client in clients {
        for lane in 0..scenario.in_flight {
            loops.spawn(call_until_stopped(client.clone(), scenario.work, lane as i64, Arc::clone(meter)));
        }
    }
    loops
}

async fn call_until_stopped<C: Client>(
    client: C,
    work: Work,
    lane: i64,
    meter: Arc<Meter>,
) -> anyhow::Result<Latencies> {
    let mut latencies = latencies();
    let mut calls = 0;
    let mut began = Instant::now();
    let data = match work {
        Work::Multiply => Vec::new(),
        Work::Echo(bytes) => (0..bytes).map(|n| n as u8).collect(),
    };
    let mut n = lane;
    while !meter.is_stopped() {
        match work {
            Work::Multiply => {
                n += 1;
                let product = client.multiply(n, 7).await?;
                anyhow::ensure!(product == n * 7, "{n} * 7 = {product}?");
            }
            Work::Echo(bytes) => {
                let back = client.echo(data.clone()).await?;
                anyhow::ensure!(back.len() == bytes, "{bytes} bytes came back as {}", back.len());
            }
        }
        let now = Instant::now();
        if meter.is_counting() {
            calls += 1;
            latencies.saturating_record((now - began).as_nanos() as u64);
        }
        began = now;
    }
    meter.count(calls);
    Ok(latencies)
}
