//! [`WakeBatches`]: spreads the watchers that one change wakes over small batches, so that other requests need not
//! wait until all are served.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Watchers in a batch. Each costs a write to a socket, 20 to 50 µs of CPU: a heartbeat that arrives at that
/// moment waits 1 to 2 ms. Smaller batches cost more in total, because each begins with cold caches.
const BATCH_SIZE: usize = 50;
/// The time between two batches, most of which is left to other work.
const BATCH_INTERVAL: Duration = Duration::from_millis(5);
/// The number of batches after which all watchers have been woken, within 150 ms: with more watchers, batches are
/// larger.
const MAX_BATCHES: usize = 30;

/// Assigns watchers to batches.
#[derive(Debug)]
pub(super) struct WakeBatches {
    last: Mutex<Batch>,
}

/// The watchers that are woken at one moment.
#[derive(Debug)]
struct Batch {
    at: Instant,
    /// The number of watchers that it can still take.
    room: usize,
}

impl Default for WakeBatches {
    fn default() -> Self {
        Self { last: Mutex::new(Batch { at: Instant::now(), room: 0 }) }
    }
}

impl WakeBatches {
    /// Returns when to wake the next watcher, of at most `watchers`; `None` if at once. A watcher that goes
    /// away before then leaves its slot unused.
    pub(super) fn next_wake(&self, watchers: usize) -> Option<Instant> {
        let size = BATCH_SIZE.max(watchers.div_ceil(MAX_BATCHES));
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at + BATCH_INTERVAL <= now {
            *last = Batch { at: now, room: size };
        } else if last.room == 0 {
            // The last batch also takes the watchers that no batch has room for, because others came and went.
            let max_at = now + BATCH_INTERVAL * (MAX_BATCHES as u32);
            *last = Batch { at: max_at.min(last.at + BATCH_INTERVAL), room: size };
        }
        last.room -= 1;
        (last.at > now).then_some(last.at)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// The delays of `count` watchers that are assigned at once.
    fn delays(batches: &WakeBatches, count: usize) -> Vec<Duration> {
        let now = Instant::now();
        (0..count).map(|_| batches.next_wake(count).map_or(Duration::ZERO, |at| at - now)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_batch_of_watchers_is_woken_at_once() {
        let batches = WakeBatches::default();
        advance(BATCH_INTERVAL).await;
        assert_eq!(delays(&batches, BATCH_SIZE), [Duration::ZERO; BATCH_SIZE]);
    }

    #[tokio::test(start_paused = true)]
    async fn thousand_watchers_are_woken_in_batches_within_100_ms() {
        let batches = WakeBatches::default();
        advance(BATCH_INTERVAL).await;
        for (batch, delays) in (0..).zip(delays(&batches, 1_000).chunks(BATCH_SIZE)) {
            assert_eq!(*delays, [BATCH_INTERVAL * batch; BATCH_SIZE]);
        }
        assert_eq!(batches.next_wake(1_000), Some(Instant::now() + Duration::from_millis(100)));
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_watchers_is_woken_within_150_ms() {
        for count in [1_501, 10_000, 100_000] {
            let batches = WakeBatches::default();
            // Also if watchers were assigned before and went away.
            for _ in 0..3 {
                let delays = delays(&batches, count);
                assert!(delays.is_sorted());
                let last = delays[count - 1];
                assert!(last > Duration::from_millis(140) && last <= Duration::from_millis(150), "{last:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn first_watcher_after_a_pause_is_woken_at_once() {
        let batches = WakeBatches::default();
        let last = delays(&batches, 1_000)[999];
        assert!(batches.next_wake(1_000).is_some());
        advance(last + BATCH_INTERVAL * 2).await;
        assert_eq!(batches.next_wake(1_000), None);
    }
}
