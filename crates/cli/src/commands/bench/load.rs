//! [`Load`]: makes the calls of a plan, and measures them.
//!
//! In an open loop a thread keeps the time: tokio's timers are a millisecond wide, which is more than many calls take.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::job::{Done, Job};
use super::measurement::{Measurement, Sample};
use super::plan::{End, Pace, Plan, due};
use crate::environment::interrupted;
use crate::time::show;

/// The parts of a measurement, one for each thread that records, up to this number: they need not wait for each other, nor move the memory of the
/// histograms between cores.
const PARTS: usize = 16;
/// The most calls that are under way at once; further ones are sent late, and their latency counts from when they were
/// due all the same. Bounds memory if a server stands still.
const MAX_UNDER_WAY: usize = 100_000;
/// The time below which the thread that keeps the time does not sleep, since waking takes about as long.
const MIN_SLEEP: Duration = Duration::from_micros(80);

/// The number of threads that have recorded calls.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number of this thread among those that have recorded calls.
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// The calls to make.
#[derive(Clone, Debug)]
pub(super) struct Load<J> {
    job: J,
}

/// A run under way.
#[derive(Debug)]
struct Run {
    parts: Vec<Mutex<Measurement>>,
    start: Instant,
    stopped: AtomicBool,
    /// Cancelled at the end of the time, and by Ctrl-C, for calls that last.
    end: CancellationToken,
    under_way: AtomicUsize,
    max_under_way: AtomicUsize,
    /// The number of calls that a closed loop has begun, if their number is limited.
    begun: AtomicU64,
    idle: Notify,
}

impl<J: Job> Load<J> {
    pub(super) const fn new(job: J) -> Self {
        Self { job }
    }

    /// Makes the calls, until the plan's end or Ctrl-C, and waits for their outcomes.
    pub(super) async fn run(&self, plan: &Plan) -> Measurement {
        let traffic = self.job.traffic();
        let run = Arc::new(Run::start());
        let timer = match plan.end {
            End::After(limit) => Some(tokio::spawn(end_after(limit, Arc::clone(&run)))),
            End::Calls(_) => None,
        };
        let live = tokio::spawn(show_live(Arc::clone(&run)));
        let calling = async {
            match plan.pace {
                Pace::Closed(callers) => self.closed(callers, plan.end, &run).await,
                Pace::Open { rate, ramp } => self.open(rate, ramp, plan.end, &run).await,
            }
        };
        tokio::pin!(calling);
        let was_interrupted = tokio::select! {
            () = &mut calling => false,
            () = interrupted() => {
                run.stopped.store(true, Ordering::Relaxed);
                run.end.cancel();
                calling.await;
                true
            }
        };
        live.abort();
        clear_live();
        if let Some(timer) = timer {
            timer.abort();
        }
        let mut total = run.total();
        total.was_interrupted = was_interrupted;
        if let (Some(before), Some(after)) = (traffic, self.job.traffic()) {
            let streams = total.streams.get_or_insert_default();
            streams.traffic.items = after.items - before.items;
            streams.traffic.bytes = after.bytes - before.bytes;
            streams.max_open = match plan.pace {
                Pace::Closed(callers) => callers.into(),
                Pace::Open { .. } => run.max_under_way.load(Ordering::Relaxed) as u64,
            };
        }
        total
    }

    async fn closed(&self, callers: u32, end: End, run: &Arc<Run>) {
        let callers = (0..callers).map(|_| {
            let (mut job, run) = (self.job.clone(), Arc::clone(run));
            tokio::spawn(async move {
                let mut due = run.start.elapsed();
                while !run.stopped.load(Ordering::Relaxed) && !end.is_reached(|| run.next_number(), due) {
                    let done = job.run(&run.end).await;
                    let now = run.start.elapsed();
                    run.record(sample(&run, &done, due, None, now.saturating_sub(due)));
                    // The next call is made at once, so that one reading of the clock is enough.
                    due = now;
                }
            })
        });
        join_all(callers).await;
    }

    async fn open(&self, rate: f64, ramp: Duration, end: End, run: &Arc<Run>) {
        let (load, handle, timed) = (self.clone(), Handle::current(), Arc::clone(run));
        // Ends with the plan, or when the run is stopped.
        let _ = tokio::task::spawn_blocking(move || load.keep_time(rate, ramp, end, &timed, &handle)).await;
        while run.under_way.load(Ordering::Acquire) > 0 {
            run.idle.notified().await;
        }
    }

    /// Sends each call when it is due.
    fn keep_time(&self, rate: f64, ramp: Duration, end: End, run: &Arc<Run>, handle: &Handle) {
        for number in 0.. {
            let due = due(number, rate, ramp);
            if end.is_reached(|| number, due) {
                return;
            }
            loop {
                if run.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let left = due.saturating_sub(run.start.elapsed());
                let is_full = run.under_way.load(Ordering::Relaxed) >= MAX_UNDER_WAY;
                if left.is_zero() && !is_full {
                    break;
                }
                // In pieces, so that Ctrl-C is noticed.
                thread::sleep(left.clamp(MIN_SLEEP, Duration::from_millis(50)));
            }
            let under_way = run.under_way.fetch_add(1, Ordering::Relaxed) + 1;
            run.max_under_way.fetch_max(under_way, Ordering::Relaxed);
            let (mut job, run) = (self.job.clone(), Arc::clone(run));
            handle.spawn(async move {
                let lag = run.start.elapsed().saturating_sub(due);
                let done = job.run(&run.end).await;
                let latency = run.start.elapsed().saturating_sub(due);
                run.record(sample(&run, &done, due, Some(lag), latency));
                if run.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
                    run.idle.notify_one();
                }
            });
        }
    }
}

impl Run {
    fn start() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            start: Instant::now(),
            stopped: AtomicBool::new(false),
            end: CancellationToken::new(),
            under_way: AtomicUsize::new(0),
            max_under_way: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            idle: Notify::new(),
        }
    }

    /// Returns the number of the next call of a closed loop.
    fn next_number(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed)
    }

    /// Records a call in the part of this thread.
    fn record(&self, sample: Sample<'_>) {
        let part = THREAD.with(|thread| *thread) % PARTS;
        self.parts[part].lock().unwrap_or_else(PoisonError::into_inner).record(sample);
    }

    fn total(&self) -> Measurement {
        let mut total = Measurement::default();
        for part in &self.parts {
            total.add(&part.lock().unwrap_or_else(PoisonError::into_inner));
        }
        total
    }
}

/// Returns the sample of a call that was due at `due`, from the start of the run.
fn sample<'a>(
    run: &Run,
    done: &'a Done,
    due: Duration,
    lag: Option<Duration>,
    latency: Duration,
) -> Sample<'a> {
    let first = done.first.map(|first| first.saturating_duration_since(run.start).saturating_sub(due));
    Sample { due, lag, latency, first, error: done.error.as_ref(), is_cut: done.is_cut }
}

/// Ends calls that last at the end of the time.
async fn end_after(limit: Duration, run: Arc<Run>) {
    tokio::time::sleep_until((run.start + limit).into()).await;
    run.end.cancel();
}

/// Clears the line of [`show_live`].
fn clear_live() {
    if std::io::stderr().is_terminal() {
        let _ = std::io::stderr().write_all(b"\r\x1b[K");
    }
}

/// Shows the figures so far on standard error, each second, if that is a terminal.
async fn show_live(run: Arc<Run>) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    loop {
        // The interval of showing: more often than once a second could not be read.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let total = run.total();
        let seconds = run.start.elapsed().as_secs_f64();
        let at = |quantile| show(Duration::from_nanos(total.latency.value_at_quantile(quantile)));
        let mut err = std::io::stderr().lock();
        let _ = write!(
            err,
            "\r\x1b[K{seconds:.0} s  {} calls  {:.0}/s  p50 {}  p99 {}  {} errors",
            total.calls(),
            total.calls() as f64 / seconds,
            at(0.5),
            at(0.99),
            total.failures()
        );
        let _ = err.flush();
    }
}
