//! [`History`]: statistics of each method over the last minute and the last ten minutes, from samples
//! of its counters: calls pay nothing for it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::observe::metrics::MethodMetrics;
use crate::observe::overview::{HistoryBucket, MethodOverview, WindowStats};
use crate::service::router::Router;

/// The length of a step.
const STEP: Duration = Duration::from_secs(MethodOverview::STEP_S);
/// The length of a minute, in steps.
const STEPS_PER_MINUTE: usize = 12;

/// The history of a server's methods.
#[derive(Debug)]
pub(crate) struct History {
    started: Instant,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    /// The counters at the ends of the last steps, the oldest first. Bounded by the steps of a minute
    /// and one.
    samples: VecDeque<Sample>,
    /// The last steps of each method, in the order of the samples' metrics, the oldest first.
    /// Bounded by [`MethodOverview::STEPS`].
    steps: Vec<VecDeque<HistoryBucket>>,
}

/// The counters of all methods at one time.
#[derive(Debug)]
struct Sample {
    taken_at: Instant,
    metrics: Vec<MethodMetrics>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), past: Mutex::default() }
    }

    /// Returns the age of the server.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes a sample at the end of each step, as long as it is polled. Never ready.
    pub(crate) async fn record(&self, router: &Router) {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sample(router.metrics());
        }
    }

    fn sample(&self, metrics: Vec<MethodMetrics>) {
        let mut past = self.lock();
        let Past { samples, steps } = &mut *past;
        if let Some(last) = samples.back() {
            steps.resize_with(metrics.len(), VecDeque::new);
            for ((steps, before), after) in steps.iter_mut().zip(&last.metrics).zip(&metrics) {
                if steps.len() == MethodOverview::STEPS {
                    steps.pop_front();
                }
                steps.push_back(bucket(&after.since(before)));
            }
        }
        if samples.len() > STEPS_PER_MINUTE {
            samples.pop_front();
        }
        samples.push_back(Sample { taken_at: Instant::now(), metrics });
    }

    /// Returns statistics of each method, from its current counters and the samples.
    pub(crate) fn overview(
        &self,
        now: Vec<MethodMetrics>,
        max_us: impl Fn(&str) -> u64,
    ) -> Vec<MethodOverview> {
        let past = self.lock();
        let minute_ago = past.samples.front();
        let methods = now.into_iter().enumerate().map(|(index, metrics)| {
            let max_us = max_us(&metrics.name);
            let total = WindowStats { max_us, ..window(&metrics, self.age(), max_us) };
            let last_minute = match minute_ago {
                Some(sample) => {
                    window(&metrics.since(&sample.metrics[index]), sample.taken_at.elapsed(), max_us)
                }
                None => total.clone(),
            };
            let history = past.steps.get(index).map(|steps| steps.iter().copied().collect());
            MethodOverview {
                in_flight: metrics.in_flight,
                name: metrics.name,
                total,
                last_minute,
                history: history.unwrap_or_default(),
            }
        });
        methods.collect()
    }

    /// Only additions and copies happen under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Computes statistics of a time span. No latency was longer than `max_us`, which limits the ends of
/// buckets.
fn window(metrics: &MethodMetrics, length: Duration, max_us: u64) -> WindowStats {
    let percentile = |percent| metrics.percentile_us(percent).min(max_us);
    let calls = metrics.calls();
    // In the first moments, any call would make an enormous rate.
    let seconds = length.as_secs_f64().max(1.0);
    WindowStats {
        calls,
        calls_per_s: calls as f64 / seconds,
        errors: metrics.errors.iter().map(|&(code, count)| (code.name(), count)).collect(),
        p50_us: percentile(50),
        p90_us: percentile(90),
        p99_us: percentile(99),
        max_us: percentile(100),
    }
}

/// Computes one step of the history.
fn bucket(metrics: &MethodMetrics) -> HistoryBucket {
    HistoryBucket {
        calls: metrics.calls(),
        errors: metrics.errors.iter().map(|(_, count)| count).sum(),
        p50_us: metrics.percentile_us(50),
        p99_us: metrics.percentile_us(99),
    }
}

#[cfg(test)]
mod tests {
    use farcall_protocol::Code;

    use super::*;
    use crate::observe::stats::Stats;

    fn call(stats: &Stats, us: u64, error: Option<Code>) {
        stats.started();
        stats.ended(Duration::from_micros(us), error);
    }

    fn overview(history: &History, stats: &Stats) -> MethodOverview {
        history.overview(vec![stats.metrics("m")], |_| 1_000).pop().expect("one method was given")
    }

    #[tokio::test(start_paused = true)]
    async fn last_minute_excludes_older_calls() {
        let (history, stats) = (History::new(), Stats::default());
        history.sample(vec![stats.metrics("m")]);
        for _ in 0..100 {
            call(&stats, 1_000, Some(Code::Internal));
        }
        for _ in 0..=STEPS_PER_MINUTE {
            tokio::time::advance(STEP).await;
            history.sample(vec![stats.metrics("m")]);
        }
        for _ in 0..30 {
            call(&stats, 20, None);
        }
        let seen = overview(&history, &stats);
        assert_eq!((seen.total.calls, seen.total.p50_us, seen.total.max_us), (130, 1_000, 1_000));
        assert_eq!(seen.total.errors["internal"], 100);
        assert_eq!((seen.last_minute.calls, seen.last_minute.p99_us), (30, 20));
        assert!(seen.last_minute.errors.is_empty());
        assert!((seen.last_minute.calls_per_s - 0.5).abs() < 0.01, "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn steps_count_their_calls_and_the_oldest_are_dropped() {
        let (history, stats) = (History::new(), Stats::default());
        for calls in 0..=MethodOverview::STEPS + 3 {
            for _ in 0..calls {
                call(&stats, 10, (calls % 2 == 1).then_some(Code::Internal));
            }
            history.sample(vec![stats.metrics("m")]);
            tokio::time::advance(STEP).await;
        }
        let steps = overview(&history, &stats).history;
        assert_eq!(steps.len(), MethodOverview::STEPS);
        let last = steps[MethodOverview::STEPS - 1];
        assert_eq!(last, HistoryBucket { calls: 123, errors: 123, p50_us: 10, p99_us: 10 });
        assert_eq!(steps[0].calls, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn percentiles_do_not_exceed_the_longest_latency() {
        let (history, stats) = (History::new(), Stats::default());
        history.sample(vec![stats.metrics("m")]);
        call(&stats, 1_000, None);
        let seen = history.overview(vec![stats.metrics("m")], |_| 1_000).pop().expect("one method was given");
        for window in [seen.total, seen.last_minute] {
            assert_eq!((window.p50_us, window.p99_us, window.max_us), (1_000, 1_000, 1_000));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn before_the_first_sample_the_last_minute_is_the_total() {
        let (history, stats) = (History::new(), Stats::default());
        call(&stats, 10, None);
        let seen = overview(&history, &stats);
        assert_eq!((seen.last_minute.calls, seen.history.len()), (1, 0));
    }
}
