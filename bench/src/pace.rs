//! The client's side of `latency-under-load`: calls at a fixed rate, counted from when each was due.
//!
//! One thread starts all calls. Where client and server have fewer cores than threads, it would wait for a core as they do, and
//! late calls would look like a slow peer. So it has real-time priority if that is allowed, and how late it was is recorded.

use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use nix::unistd::gettid;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::client::{Client, WithClients};
use crate::load::{Latencies, latencies_of_none, percentile_us};
use crate::peers::Peer;
use crate::process::{cpu_time, waited_for_core};
use crate::scenario::{BURN, BURN_EVERY};

/// The share of the calls that is not counted, at the beginning.
const WARM_UP: f64 = 0.2;
/// A peer does not keep up, which is then the result, once the calls of this time are in flight.
const MAX_BACKLOG: Duration = Duration::from_millis(500);
/// The least number of calls in flight at which a peer counts as not keeping up.
const MIN_BACKLOG: u64 = 5000;
/// The time limit of the last calls.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest sleep of the thread that starts the calls: at high rates it starts several at a time, since waking it for each
/// would take a good part of a core from what is measured.
const MIN_PAUSE: Duration = Duration::from_micros(50);

pub(crate) const PERCENTILES: [f64; 4] = [50.0, 99.0, 99.9, 99.99];

/// Calls at a rate (used by `latency-under-load`).
#[derive(Args)]
pub(crate) struct Pace {
    #[arg(long)]
    pub(crate) peer: Peer,
    #[arg(long)]
    address: String,
    #[arg(long)]
    server: u32,
    #[arg(long)]
    rate: u64,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    burn: bool,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Paced {
    pub(crate) peer: String,
    pub(crate) rate: u64,
    /// `false` if too many calls were in flight at some time.
    pub(crate) kept_up: bool,
    /// Microseconds from when a call was due to its answer.
    pub(crate) percentiles_us: [f64; PERCENTILES.len()],
    pub(crate) max_us: f64,
    /// Microseconds from when a call was due to the first poll of its task, before the peer has anything to do with it.
    pub(crate) begun_p999_us: f64,
    /// Microseconds from when a call was due to when it was handed to the runtime.
    pub(crate) late_p999_us: f64,
    /// CPU time of both processes, in microseconds a call.
    pub(crate) cpu_us: f64,
    /// The time that the threads of both processes have waited for a core, as a share of the measured time.
    pub(crate) waited: f64,
}

/// Runs the client's side, in a separate process.
pub(crate) async fn run(pace: &Pace) -> anyhow::Result<()> {
    let calls = usize::try_from(pace.rate * pace.seconds)?;
    let at_rate = AtRate { rate: pace.rate, calls, burn: pace.burn };
    let usage = usage_after_warm_up(pace)?;
    let (kept_up, times) = pace.peer.with_clients(&pace.address, 1, at_rate).await?.await?;
    let Usage { time, cpu, waited } = usage.join().map_err(|_| anyhow!("reading CPU time panicked"))??;
    let (warm_up, mut all) = ((calls as f64 * WARM_UP) as usize, [(); 3].map(|()| latencies_of_none()));
    let others = times.iter().enumerate().skip(warm_up).filter(|(index, _)| !at_rate.burns(*index));
    for (_, times) in others {
        let [late, begun, ended] = &mut all;
        let record = |into: &mut Latencies, nanos: &AtomicU64| into.saturating_record(nanos.load(Relaxed));
        record(late, &times.handed);
        record(begun, &times.begun);
        record(ended, &times.ended);
    }
    let [late, begun, ended] = &all;
    let paced = Paced {
        peer: pace.peer.to_string(),
        rate: pace.rate,
        kept_up,
        percentiles_us: PERCENTILES.map(|percent| percentile_us(ended, percent)),
        max_us: ended.max() as f64 / 1000.0,
        begun_p999_us: percentile_us(begun, 99.9),
        late_p999_us: percentile_us(late, 99.9),
        cpu_us: cpu.as_secs_f64() * 1e6 / (pace.rate as f64 * time.as_secs_f64()),
        waited: waited.as_secs_f64() / time.as_secs_f64(),
    };
    println!("{}", serde_json::to_string(&paced)?);
    Ok(())
}

/// The CPU time and the time that both processes have used.
struct Usage {
    time: Duration,
    cpu: Duration,
    /// For a core, all threads together.
    waited: Duration,
}

/// Measures both processes from the end of the warm-up almost to the end of the time.
fn usage_after_warm_up(pace: &Pace) -> anyhow::Result<JoinHandle<anyhow::Result<Usage>>> {
    let (server, time) = (pace.server, Duration::from_secs(pace.seconds));
    let now = move || {
        let (mut cpu, mut waited) = (Duration::ZERO, Duration::ZERO);
        for pid in [server, std::process::id()] {
            cpu += cpu_time(pid)?;
            waited += waited_for_core(pid)?;
        }
        anyhow::Ok((Instant::now(), cpu, waited))
    };
    // Not a task: it would have to wait for what it measures.
    let measuring = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(time.mul_f64(WARM_UP));
        let (began, cpu_before, waited_before) = now()?;
        // The last calls may end before: it began a moment before the first.
        std::thread::sleep(time.mul_f64(0.9 - WARM_UP));
        let (ended, cpu, waited) = now()?;
        let (cpu, waited) = (cpu.saturating_sub(cpu_before), waited.saturating_sub(waited_before));
        Ok(Usage { time: ended - began, cpu, waited })
    });
    Ok(measuring?)
}

/// Nanoseconds since a call was due.
#[derive(Default)]
struct CallTimes {
    handed: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
}

/// `true` if the peer kept up, and the times of each call.
type Taken = (bool, Arc<[CallTimes]>);

/// The state of the calls that are under way.
#[derive(Clone, Default)]
struct UnderWay {
    calls: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
}

/// Starts calls, each when it is due.
#[derive(Clone, Copy)]
struct AtRate {
    rate: u64,
    calls: usize,
    burn: bool,
}

impl AtRate {
    fn burns(&self, index: usize) -> bool {
        self.burn && index.is_multiple_of(BURN_EVERY)
    }

    /// Returns the number of calls in flight above which the peer does not keep up.
    fn max_in_flight(&self) -> usize {
        (self.rate * MAX_BACKLOG.as_millis() as u64 / 1000).max(MIN_BACKLOG) as usize
    }

    /// Hands each call to `start` when it is due. Returns `false` if the peer does not keep up.
    fn hand_over(&self, under_way: &AtomicUsize, mut start: impl FnMut(usize, Instant)) -> bool {
        take_real_time_priority();
        let (began, mut index) = (Instant::now(), 0);
        let due_at = |index: usize| began + Duration::from_nanos(index as u64 * 1_000_000_000 / self.rate);
        while index < self.calls {
            if let Some(early) = due_at(index).checked_duration_since(Instant::now()) {
                std::thread::sleep(early.max(MIN_PAUSE));
            }
            let now = Instant::now();
            while index < self.calls && due_at(index) <= now {
                start(index, due_at(index));
                index += 1;
            }
            if under_way.load(Relaxed) > self.max_in_flight() {
                return false;
            }
        }
        true
    }
}

impl WithClients for AtRate {
    type Output = Pin<Box<dyn Future<Output = anyhow::Result<Taken>> + Send>>;

    fn run<C: Client>(self, mut clients: Vec<C>) -> Self::Output {
        Box::pin(async move {
            let client = clients.pop().context("there is one")?;
            client.multiply(6, 7).await?;
            let times: Arc<[CallTimes]> = (0..self.calls).map(|_| CallTimes::default()).collect();
            let under_way = UnderWay::default();
            let handle = Handle::current();
            let (all, counts) = (Arc::clone(&times), under_way.clone());
            // On a separate thread: timers of the runtime have a resolution of one millisecond.
            let kept_up = tokio::task::spawn_blocking(move || {
                self.hand_over(&under_way.calls, |index, due| {
                    let (client, times, counts) = (client.clone(), Arc::clone(&all), under_way.clone());
                    counts.calls.fetch_add(1, Relaxed);
                    note(&all[index].handed, due);
                    handle.spawn(async move {
                        note(&times[index].begun, due);
                        if !is_right(&client, index, self.burns(index)).await {
                            counts.failed.fetch_add(1, Relaxed);
                        }
                        note(&times[index].ended, due);
                        counts.calls.fetch_sub(1, Relaxed);
                    });
                })
            })
            .await?;
            let deadline = Instant::now() + CALL_TIMEOUT;
            while kept_up && counts.calls.load(Relaxed) > 0 && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let failed = counts.failed.load(Relaxed);
            // A peer that opens a connection for each call may be out of them, as part of not keeping up.
            ensure!(failed == 0 || !kept_up, "{failed} calls failed");
            Ok((kept_up && counts.calls.load(Relaxed) == 0, times))
        })
    }
}

fn note(nanos: &AtomicU64, due: Instant) {
    nanos.store(due.elapsed().as_nanos() as u64, Relaxed);
}

async fn is_right<C: Client>(client: &C, index: usize, burns: bool) -> bool {
    if burns {
        return client.burn(BURN).await.is_ok();
    }
    let n = index as i64;
    client.multiply(n, 7).await.ok() == Some(n * 7)
}

/// Puts this thread before all others of the machine, if the user may do that and `chrt` is there. Else what it loses is in
/// the figures, and its share is seen from how late it was.
fn take_real_time_priority() {
    // A program, since the crates for it are unsafe code, or have to be.
    let priority = Command::new("chrt").args(["--fifo", "--pid", "1", &gettid().to_string()]).status();
    if !priority.is_ok_and(|status| status.success()) {
        eprintln!(
            "without real-time priority, calls are late by what the thread that starts them waits for a core"
        );
    }
}
