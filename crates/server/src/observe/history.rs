//! What each method did over the last minute and the last ten, by looking at its counts now and then:
//! calls pay nothing for it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::observe::metrics::MethodMetrics;
use crate::observe::overview::{HistoryBucket, MethodOverview, WindowStats};
use crate::service::router::Router;

/// How long a step is.
const STEP: Duration = Duration::from_secs(MethodOverview::STEP_S);
/// How far back the last minute goes, in steps.
const MINUTE: usize = 12;

/// The past of a server's methods.
#[derive(Debug)]
pub(crate) struct History {
    began: Instant,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    /// The counts at the ends of the last steps, the oldest first; one more than the steps of a
    /// minute.
    samples: VecDeque<Sample>,
    /// For each method, in the order of the samples' figures: its last steps, the oldest first.
    /// Bounded by [`MethodOverview::STEPS`].
    steps: Vec<VecDeque<HistoryBucket>>,
}

/// The counts of all methods at one time.
#[derive(Debug)]
struct Sample {
    at: Instant,
    figures: Vec<MethodMetrics>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), past: Mutex::default() }
    }

    /// How long the server has been there.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Looks at the counts at the end of each step, for as long as it is polled.
    pub(crate) async fn keep(&self, router: &Router) {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sample(router.figures());
        }
    }

    fn sample(&self, figures: Vec<MethodMetrics>) {
        let mut past = self.lock();
        let Past { samples, steps } = &mut *past;
        if let Some(last) = samples.back() {
            steps.resize_with(figures.len(), VecDeque::new);
            for ((steps, before), after) in steps.iter_mut().zip(&last.figures).zip(&figures) {
                if steps.len() == MethodOverview::STEPS {
                    steps.pop_front();
                }
                steps.push_back(step(&after.since(before)));
            }
        }
        if samples.len() > MINUTE {
            samples.pop_front();
        }
        samples.push_back(Sample { at: Instant::now(), figures });
    }

    /// How each method is used, by its counts now and in the past.
    pub(crate) fn overview(
        &self,
        now: Vec<MethodMetrics>,
        max_us: impl Fn(&str) -> u64,
    ) -> Vec<MethodOverview> {
        let past = self.lock();
        let minute_ago = past.samples.front();
        let methods = now.into_iter().enumerate().map(|(index, figures)| {
            let max_us = max_us(&figures.name);
            let total = WindowStats { max_us, ..span(&figures, self.age(), max_us) };
            let last_minute = match minute_ago {
                Some(sample) => span(&figures.since(&sample.figures[index]), sample.at.elapsed(), max_us),
                None => total.clone(),
            };
            let history = past.steps.get(index).map(|steps| steps.iter().copied().collect());
            MethodOverview {
                in_flight: figures.in_flight,
                name: figures.name,
                total,
                last_minute,
                history: history.unwrap_or_default(),
            }
        });
        methods.collect()
    }

    /// Nothing but adding up and copying happens under this lock.
    fn lock(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No latency was longer than `max_us`, by which the ends of buckets are cut.
fn span(figures: &MethodMetrics, length: Duration, max_us: u64) -> WindowStats {
    let percentile = |percent| figures.percentile_us(percent).min(max_us);
    let calls = figures.calls();
    // The first moment would make a rate of any call that is beyond all measure.
    let seconds = length.as_secs_f64().max(1.0);
    WindowStats {
        calls,
        calls_per_s: calls as f64 / seconds,
        errors: figures.errors.iter().map(|&(code, count)| (code.name(), count)).collect(),
        p50_us: percentile(50),
        p90_us: percentile(90),
        p99_us: percentile(99),
        max_us: percentile(100),
    }
}

fn step(figures: &MethodMetrics) -> HistoryBucket {
    HistoryBucket {
        calls: figures.calls(),
        errors: figures.errors.iter().map(|(_, count)| count).sum(),
        p50_us: figures.percentile_us(50),
        p99_us: figures.percentile_us(99),
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

    fn look(history: &History, stats: &Stats) -> MethodOverview {
        history.overview(vec![stats.figures("m")], |_| 1_000).pop().expect("there is one")
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_minute_forgets_what_is_older() {
        let (history, stats) = (History::new(), Stats::default());
        history.sample(vec![stats.figures("m")]);
        for _ in 0..100 {
            call(&stats, 1_000, Some(Code::Internal));
        }
        for _ in 0..=MINUTE {
            tokio::time::advance(STEP).await;
            history.sample(vec![stats.figures("m")]);
        }
        for _ in 0..30 {
            call(&stats, 20, None);
        }
        let seen = look(&history, &stats);
        assert_eq!((seen.total.calls, seen.total.p50_us, seen.total.max_us), (130, 1_000, 1_000));
        assert_eq!(seen.total.errors["internal"], 100);
        assert_eq!((seen.last_minute.calls, seen.last_minute.p99_us), (30, 20));
        assert!(seen.last_minute.errors.is_empty());
        assert!((seen.last_minute.calls_per_s - 0.5).abs() < 0.01, "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_step_has_its_own_calls_and_the_oldest_go() {
        let (history, stats) = (History::new(), Stats::default());
        for calls in 0..=MethodOverview::STEPS + 3 {
            for _ in 0..calls {
                call(&stats, 10, (calls % 2 == 1).then_some(Code::Internal));
            }
            history.sample(vec![stats.figures("m")]);
            tokio::time::advance(STEP).await;
        }
        let steps = look(&history, &stats).history;
        assert_eq!(steps.len(), MethodOverview::STEPS);
        let last = steps[MethodOverview::STEPS - 1];
        assert_eq!(last, HistoryBucket { calls: 123, errors: 123, p50_us: 10, p99_us: 10 });
        assert_eq!(steps[0].calls, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn no_percentile_is_above_the_longest_latency() {
        let (history, stats) = (History::new(), Stats::default());
        history.sample(vec![stats.figures("m")]);
        call(&stats, 1_000, None);
        let seen = history.overview(vec![stats.figures("m")], |_| 1_000).pop().expect("there is one");
        for span in [seen.total, seen.last_minute] {
            assert_eq!((span.p50_us, span.p99_us, span.max_us), (1_000, 1_000, 1_000));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn before_the_first_sample_the_last_minute_is_all_there_was() {
        let (history, stats) = (History::new(), Stats::default());
        call(&stats, 10, None);
        let seen = look(&history, &stats);
        assert_eq!((seen.last_minute.calls, seen.history.len()), (1, 0));
    }
}
