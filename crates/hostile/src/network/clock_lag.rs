//! [`ClockLag`]: how late this machine lets a timer run, next to which the lateness of calls is judged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tokio::time::sleep;

/// The pause of the timer that is measured.
const PAUSE: Duration = Duration::from_millis(5);
/// The least lag that is kept.
const MIN_LAG: Duration = Duration::from_millis(10);

/// A task that sleeps, and records when it was woken late. Dropping it ends the task.
pub(super) struct ClockLag {
    late: Arc<Mutex<Vec<Late>>>,
    task: AbortHandle,
}

#[derive(Clone, Copy)]
struct Late {
    due: Instant,
    woken: Instant,
}

impl ClockLag {
    pub(super) fn start() -> Self {
        let late = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&late);
        // Ends with `ClockLag`; it cannot fail.
        let task = tokio::spawn(async move {
            loop {
                let due = Instant::now() + PAUSE;
                sleep(PAUSE).await;
                let woken = Instant::now();
                if woken.saturating_duration_since(due) >= MIN_LAG {
                    // A few a second on a busy machine, for the minute of a trial.
                    record.lock().unwrap_or_else(PoisonError::into_inner).push(Late { due, woken });
                }
            }
        });
        Self { late, task: task.abort_handle() }
    }

    /// Returns the longest lag that began or ended between two moments.
    pub(super) fn between(&self, from: Instant, to: Instant) -> Duration {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let overlapping = late.iter().filter(|late| late.due <= to && late.woken >= from);
        overlapping.map(|late| late.woken - late.due).max().unwrap_or_default()
    }
}

impl Drop for ClockLag {
    fn drop(&mut self) {
        self.task.abort();
    }
}
