//! The load: concurrent calls in closed loops, and their latencies.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::client::{Client, WithClients};
use crate::process::cpu_time;
use crate::record::RECORD_BYTES;
use crate::scenario::{BURN, BURN_EVERY, Scenario, Work};

/// The time limit of the first calls, and of the last ones after the measured time, longer than any successful call takes.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

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

/// Counts calls and their latencies while the measured time runs. There is one in a process.
#[derive(Default)]
pub(crate) struct Meter {
    begun: AtomicUsize,
    counting: AtomicBool,
    stopped: AtomicBool,
    calls: AtomicU64,
    /// The latencies of each thread that recorded any. One histogram for each of a thousand loops would be 200 MB, and
    /// would be measured, too.
    latencies: Mutex<Vec<Arc<Mutex<Latencies>>>>,
}

thread_local! {
    /// The latencies of this thread, also referenced by the meter, which locks them only at the end.
    static LATENCIES: OnceCell<Arc<Mutex<Latencies>>> = const { OnceCell::new() };
}

impl Meter {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Counts a loop that has received its first answer.
    pub(crate) fn has_begun(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    pub(crate) fn is_counting(&self) -> bool {
        self.counting.load(Relaxed)
    }

    pub(crate) fn count(&self, calls: u64) {
        self.calls.fetch_add(calls, Relaxed);
    }

    pub(crate) fn record(&self, latency: Duration) {
        LATENCIES.with(|latencies| {
            let latencies = latencies.get_or_init(|| {
                let own = Arc::new(Mutex::new(latencies_of_none()));
                self.latencies.lock().push(Arc::clone(&own));
                own
            });
            latencies.lock().saturating_record(latency.as_nanos() as u64);
        });
    }

    fn all_latencies(&self) -> anyhow::Result<Latencies> {
        let mut all = latencies_of_none();
        for one in self.latencies.lock().iter() {
            all.add(&*one.lock())?;
        }
        Ok(all)
    }
}

/// Tasks that call until the meter stops.
pub(crate) type Loops = JoinSet<anyhow::Result<()>>;

/// In nanoseconds.
pub(crate) type Latencies = Histogram<u64>;

pub(crate) fn latencies_of_none() -> Latencies {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are legal")
}

/// A percentile in microseconds.
pub(crate) fn percentile_us(latencies: &Latencies, percent: f64) -> f64 {
    latencies.value_at_percentile(percent) as f64 / 1000.0
}

/// Drives `loops` through warm-up and measurement.
pub(crate) async fn measure(
    meter: Arc<Meter>,
    mut loops: Loops,
    warm_up: Duration,
    time: Duration,
    server: u32,
) -> anyhow::Result<(f64, Latencies, f64)> {
    let deadline = Instant::now() + CALL_TIMEOUT;
    while meter.begun.load(Relaxed) < loops.len() {
        if let Some(ended) = loops.try_join_next() {
            ended??;
            bail!("a loop ended before its time");
        }
        ensure!(Instant::now() < deadline, "some calls were not answered within {CALL_TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let cpu = || anyhow::Ok(cpu_time(server)? + cpu_time(std::process::id())?);
    tokio::time::sleep(warm_up).await;
    let cpu_before = cpu()?;
    let began = Instant::now();
    meter.counting.store(true, Relaxed);
    tokio::time::sleep(time).await;
    meter.counting.store(false, Relaxed);
    let took = began.elapsed();
    let cpu = cpu()? - cpu_before;
    meter.stopped.store(true, Relaxed);
    let ending = async {
        while let Some(ended) = loops.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(CALL_TIMEOUT, ending).await.context("calls did not end")??;
    let calls = meter.calls.load(Relaxed);
    ensure!(calls > 0, "no call ended within {time:?}");
    Ok((calls as f64 / took.as_secs_f64(), meter.all_latencies()?, cpu.as_secs_f64() * 1e6 / calls as f64))
}

/// Starts the scenario's loops on each connection.
pub(crate) struct ClosedLoops<'a> {
    pub(crate) scenario: Scenario,
    pub(crate) meter: &'a Arc<Meter>,
}

impl WithClients for ClosedLoops<'_> {
    type Output = Loops;

    fn run<C: Client>(self, clients: Vec<C>) -> Loops {
        let mut loops = JoinSet::new();
        for client in clients {
            for lane in 0..self.scenario.in_flight {
                let meter = Arc::clone(self.meter);
                loops.spawn(call_until_stopped(client.clone(), self.scenario.work, lane, meter));
            }
        }
        loops
    }
}

async fn call_until_stopped<C: Client>(
    client: C,
    work: Work,
    lane: usize,
    meter: Arc<Meter>,
) -> anyhow::Result<()> {
    let mut calls = 0;
    let mut began = Instant::now();
    let data: Bytes = match work {
        Work::Multiply | Work::Record | Work::MultiplyOrBurn => Bytes::new(),
        Work::Echo(bytes) => (0..bytes).map(|n| b'a' + (n % 26) as u8).collect(),
    };
    // Lanes differ, so that they do not all burn at the same time.
    let mut n = lane;
    while !meter.is_stopped() {
        n += 1;
        let burns = work == Work::MultiplyOrBurn && n.is_multiple_of(BURN_EVERY);
        match work {
            _ if burns => client.burn(BURN).await?,
            Work::Multiply | Work::MultiplyOrBurn => {
                let n = n as i64;
                let product = client.multiply(n, 7).await?;
                ensure!(product == n * 7, "{n} * 7 = {product}?");
            }
            Work::Echo(bytes) => {
                let back = client.echo(data.clone()).await?;
                ensure!(back.len() == bytes, "{bytes} bytes came back as {}", back.len());
                // Checked once, so that it costs the measurement nothing.
                ensure!(n > lane + 1 || back == data, "other bytes came back");
            }
            Work::Record => {
                let bytes = client.count_record().await?;
                ensure!(bytes == RECORD_BYTES, "{bytes} bytes were counted instead of {RECORD_BYTES}");
            }
        }
        if n == lane + 1 {
            meter.has_begun();
        }
        let now = Instant::now();
        if meter.is_counting() {
            calls += 1;
            if !burns {
                meter.record(now - began);
            }
        }
        began = now;
    }
    meter.count(calls);
    Ok(())
}
