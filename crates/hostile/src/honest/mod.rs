//! The honest client: 100 small calls a second, each measured from the moment at which it should start.
//!
//! The schedule is open: a call starts whether or not the ones before it have ended, so that a server that stalls is
//! charged for all calls of that time. A call each second comes from a newcomer, which opens a connection first.

mod caller;
mod recorder;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

pub(crate) use self::caller::{Call, Caller};
pub(crate) use self::recorder::{Latencies, Phase, Recorder};

/// The time between two calls.
const INTERVAL: Duration = Duration::from_millis(10);
/// The number of calls for each newcomer.
const CALLS_PER_NEWCOMER: u64 = 100;

/// An honest client at work.
pub(crate) struct Honest {
    pub(crate) recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    calling: JoinHandle<()>,
}

impl Honest {
    /// Starts a client that calls in this way. A call that takes longer than `max_call` counts as failed, those
    /// of newcomers during the attack only if `newcomers_count`.
    pub(crate) fn start(caller: Caller, max_call: Duration, newcomers_count: bool) -> Self {
        let recorder = Arc::new(Recorder::new(newcomers_count));
        let stop = Arc::new(AtomicBool::new(false));
        let (start, starts) = mpsc::unbounded_channel();
        let stopped = Arc::clone(&stop);
        // A thread, since the runtime's timers have a resolution of 1 ms. It sends 100 numbers a second until it stops.
        thread::spawn(move || {
            let begin = Instant::now();
            for number in 0.. {
                let intended = begin + INTERVAL * number;
                thread::sleep(intended.saturating_duration_since(Instant::now()));
                if stopped.load(Relaxed) || start.send(intended).is_err() {
                    return;
                }
            }
        });
        let calling = tokio::spawn(call_all(Arc::new(caller), max_call, starts, Arc::clone(&recorder)));
        Self { recorder, stop, calling }
    }

    /// Stops after the calls under way, and returns what was measured.
    pub(crate) async fn finish(self) -> Arc<Recorder> {
        self.stop.store(true, Relaxed);
        // A panic of a call would be a bug of this program, and shows on stderr.
        let _ = self.calling.await;
        self.recorder
    }
}

/// Makes a call at each start.
async fn call_all(
    caller: Arc<Caller>,
    max_call: Duration,
    mut starts: mpsc::UnboundedReceiver<Instant>,
    recorder: Arc<Recorder>,
) {
    // At most `max_call` / `INTERVAL` calls are under way.
    let mut calls = JoinSet::new();
    let mut number = 0_u64;
    while let Some(intended) = starts.recv().await {
        let phase = recorder.phase();
        let (caller, recorder) = (Arc::clone(&caller), Arc::clone(&recorder));
        number += 1;
        calls.spawn(async move {
            let is_newcomer = number.is_multiple_of(CALLS_PER_NEWCOMER);
            let call =
                async { if is_newcomer { caller.call_as_newcomer().await } else { caller.call().await } };
            let outcome = timeout(max_call, call).await;
            let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {max_call:?}")));
            recorder.record(phase, intended.elapsed(), is_newcomer, outcome);
        });
        while calls.try_join_next().is_some() {}
    }
    calls.join_all().await;
}
