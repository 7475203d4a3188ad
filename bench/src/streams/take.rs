//! The clients: how many items come in a time, and what calls take beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use futures::StreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::feed::Feed;
use super::source::Source;
use super::{farcall, raw};
#[cfg(feature = "rivals")]
use super::{tonic, volo};
use crate::load::{Latencies, latencies_of_none, percentile_us};
use crate::process::{cpu_time, resident_kb};

/// The time before the measured one.
const WARM_UP: Duration = Duration::from_millis(300);
/// The pause after which idle streams have released what they needed to begin.
const SETTLING: Duration = Duration::from_secs(3);
/// The time in which streams that are not read are given to fill what there is to fill.
const FILLING: Duration = Duration::from_millis(500);

/// Takes streams of a server (used by `streams`).
#[derive(Args, Clone, Debug)]
pub(crate) struct Take {
    #[arg(long)]
    pub(crate) source: Source,
    #[arg(long, default_value = "")]
    address: String,
    #[arg(long, default_value_t = 0)]
    server: u32,
    /// The size of an item.
    #[arg(long)]
    pub(crate) bytes: usize,
    /// `false` if there is no stream.
    #[arg(long, action = clap::ArgAction::Set)]
    pub(crate) reads: bool,
    /// The number of streams that are not read.
    #[arg(long)]
    pub(crate) still: usize,
    #[arg(long)]
    pub(crate) calls_per_s: u64,
    #[arg(long)]
    ms: u64,
    /// The number of idle streams; 0 for the other measurements.
    #[arg(long)]
    idle: usize,
    #[arg(long)]
    connections: usize,
}

/// The figures of a measurement; 0 where it has none.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) items_per_s: f64,
    pub(crate) bytes_per_s: f64,
    pub(crate) call_p99_us: f64,
    /// CPU time of both processes, in nanoseconds an item.
    pub(crate) cpu_ns: f64,
    pub(crate) server_kb_each: f64,
}

impl Take {
    pub(crate) const fn new(source: Source, ms: u64) -> Self {
        let address = String::new();
        Self {
            source,
            address,
            server: 0,
            bytes: 0,
            reads: true,
            still: 0,
            calls_per_s: 0,
            ms,
            idle: 0,
            connections: 1,
        }
    }

    pub(crate) fn idle(streams: usize, connections: usize) -> Self {
        Self { idle: streams, connections, ..Self::new(Source::Farcall, 0) }
    }

    /// Returns the arguments by which a process does the same.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Self { source, bytes, reads, still, calls_per_s, ms, idle, connections, .. } = self;
        format!(
            "--source {source} --bytes {bytes} --reads {reads} --still {still} --calls-per-s {calls_per_s} --ms {ms} \
             --idle {idle} --connections {connections}"
        )
        .split_whitespace()
        .map(str::to_owned)
        .collect()
    }

    /// Measures, and prints what came.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let address = &self.address;
        let taken = match self.source {
            Source::Raw => self.measure(raw::Address(address.clone())).await?,
            Source::Farcall if self.idle > 0 => self.measure_idle().await?,
            Source::Farcall => self.measure(farcall::connect(address).await?).await?,
            #[cfg(feature = "rivals")]
            Source::Tonic => self.measure(tonic::connect(address, true).await?).await?,
            #[cfg(feature = "rivals")]
            Source::TonicDefault => self.measure(tonic::connect(address, false).await?).await?,
            #[cfg(feature = "rivals")]
            Source::Volo => self.measure(volo::connect(address)?).await?,
            #[cfg(not(feature = "rivals"))]
            Source::Tonic | Source::TonicDefault | Source::Volo => {
                anyhow::bail!(crate::peers::WITHOUT_RIVALS)
            }
        };
        println!("{}", serde_json::to_string(&taken)?);
        Ok(())
    }

    async fn measure(&self, feed: impl Feed) -> anyhow::Result<Taken> {
        let mut still = Vec::new();
        for _ in 0..self.still {
            still.push(feed.open(self.bytes).await?);
        }
        if self.still > 0 {
            tokio::time::sleep(FILLING).await;
        }
        let (items, latencies) = (Arc::<AtomicU64>::default(), Arc::new(Mutex::new(latencies_of_none())));
        let counting = Arc::<AtomicBool>::default();
        let mut tasks = JoinSet::new();
        if self.reads {
            let (items, bytes) = (Arc::clone(&items), self.bytes);
            let mut stream = feed.open(bytes).await?;
            tasks.spawn(async move {
                while let Some(item) = stream.next().await {
                    let len = item?;
                    ensure!(len == bytes, "an item of {len} bytes instead of {bytes}");
                    items.fetch_add(1, Relaxed);
                }
                bail!("the stream ended")
            });
        }
        if self.calls_per_s > 0 {
            let every = Duration::from_secs(1) / u32::try_from(self.calls_per_s)?;
            tasks.spawn(call(feed.clone(), every, Arc::clone(&latencies), Arc::clone(&counting)));
        }
        tokio::time::sleep(WARM_UP).await;
        let (before, began, cpu_before) = (items.load(Relaxed), Instant::now(), self.cpu_time()?);
        counting.store(true, Relaxed);
        tokio::time::sleep(Duration::from_millis(self.ms)).await;
        let (after, took) = (items.load(Relaxed), began.elapsed().as_secs_f64());
        let cpu = (self.cpu_time()? - cpu_before).as_secs_f64();
        if let Some(ended) = tasks.try_join_next() {
            ended??;
        }
        drop(still);
        let items_per_s = (after - before) as f64 / took;
        let call_p99_us = percentile_us(&latencies.lock(), 99.0);
        Ok(Taken {
            items_per_s,
            bytes_per_s: items_per_s * self.bytes as f64,
            call_p99_us,
            cpu_ns: if after > before { cpu * 1e9 / (after - before) as f64 } else { 0.0 },
            server_kb_each: 0.0,
        })
    }

    /// Returns the CPU time of this process and of the server's.
    fn cpu_time(&self) -> anyhow::Result<Duration> {
        Ok(cpu_time(std::process::id())? + cpu_time(self.server)?)
    }

    /// Opens streams over several connections, and leaves them.
    async fn measure_idle(&self) -> anyhow::Result<Taken> {
        let mut feeds = Vec::new();
        for _ in 0..self.connections {
            let feed = farcall::connect(&self.address).await?;
            ensure!(feed.multiply(6, 7).await? == 42, "6 * 7 is something else");
            feeds.push(feed);
        }
        let mut held = Vec::new();
        for feed in &feeds {
            // The first one of a connection has all be there that is needed once.
            held.push(feed.open_idle().await?);
        }
        tokio::time::sleep(SETTLING).await;
        let before = resident_kb(self.server)?;
        for (index, feed) in (feeds.len()..self.idle).zip(feeds.iter().cycle()) {
            held.push(feed.open_idle().await.with_context(|| format!("stream {index}"))?);
        }
        tokio::time::sleep(SETTLING).await;
        let grown = resident_kb(self.server)?.saturating_sub(before) as f64;
        let server_kb_each = grown / (self.idle - feeds.len()) as f64;
        Ok(Taken { server_kb_each, ..Taken::default() })
    }
}

/// Calls at a fixed rate. The time of a call counts from when it was due.
async fn call(
    feed: impl Feed,
    every: Duration,
    latencies: Arc<Mutex<Latencies>>,
    counting: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut due = interval(every);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        let at = due.tick().await;
        let (feed, latencies, counting) = (feed.clone(), Arc::clone(&latencies), Arc::clone(&counting));
        tokio::spawn(async move {
            let is_right = feed.multiply(6, 7).await.is_ok_and(|product| product == 42);
            if is_right && counting.load(Relaxed) {
                latencies.lock().saturating_record(at.elapsed().as_nanos() as u64);
            }
        });
    }
}
