//! [`MethodLatency`]: how long the calls of one method take, without load and now. It decides nothing.

/// The calls after which the mean without load is as certain as it gets: it follows what changes slowly.
const MAX_SAMPLES: f64 = 256.0;
/// A mean that differs from the known one by more than this many standard errors replaces it: something has changed.
const SURPRISING: f64 = 3.0;
/// Before latencies are known, they are taken to vary: this many calls with half of the mean as their standard deviation.
const DOUBTED_SAMPLES: f64 = 8.0;
const DOUBT: f64 = DOUBTED_SAMPLES / 4.0;
/// One call counts as this many times its usual latency at most.
const MAX_SLOWDOWN: f64 = 32.0;
/// The part by which the shortest latency follows longer ones.
const RISE: f64 = 0.1;
/// The part of the shortest latency that is kept over a window without calls, so that calls that are refused since they
/// could not end in time are tried again some day.
const FORGET: f64 = 0.95;

/// The latencies of one method, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MethodLatency {
    /// The mean without load; zero before the first measurement.
    pub(super) unloaded: f64,
    /// The calls that it is the mean of.
    samples: f64,
    /// The shortest of the last windows; zero before the first call has ended.
    pub(super) shortest: f64,
    /// The sum and the number of those of the current cohort, and the shortest.
    sum: f64,
    count: u32,
    window_shortest: f64,
    /// The calls of the cohort that run, and the sum of the times at which they began, since the cohort did.
    running: u32,
    began: f64,
}

/// The latencies of a cohort, in all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CohortLatency {
    pub(super) calls: f64,
    pub(super) actual: f64,
    /// Their latencies without load.
    pub(super) expected: f64,
}

impl MethodLatency {
    /// Notes a call of the cohort that starts at this time, in seconds since the cohort began.
    pub(super) fn started(&mut self, at: f64) {
        self.running += 1;
        self.began += at;
    }

    /// Notes the end of a call of the cohort that started at this time. Returns its latency as it counts, and by what it is expected to be.
    pub(super) fn ended(&mut self, at: f64, latency: f64, counts: bool) -> Option<f64> {
        self.running = self.running.saturating_sub(1);
        self.began -= at;
        if !counts {
            return None;
        }
        let latency = self.bounded(latency);
        self.sum += latency;
        self.count += 1;
        let is_first = self.window_shortest == 0.0;
        self.window_shortest = if is_first { latency } else { self.window_shortest.min(latency) };
        Some(latency / self.expected(latency))
    }

    /// Notes a call that ended, whether it is of the cohort or not.
    pub(super) fn note_shortest(&mut self, latency: f64) {
        if self.shortest == 0.0 || latency < self.shortest {
            self.shortest = latency;
        }
    }

    /// Counts the calls of the cohort that still run, as if they ended at this time: to leave out the slowest would make the
    /// others look quick. Returns their number and the ratio of their latency to the one without load.
    pub(super) fn close(&mut self, at: f64) -> (f64, f64) {
        let running = f64::from(std::mem::take(&mut self.running));
        let began = std::mem::take(&mut self.began) / running.max(1.0);
        let age = self.bounded(at - began);
        // Calls that are not older than others tell nothing.
        if running == 0.0 || age <= self.unloaded.max(self.mean()) {
            return (0.0, 0.0);
        }
        self.sum += running * age;
        self.count += running as u32;
        (running, age / self.expected(age))
    }

    /// Returns the cohort's latencies, after [`MethodLatency::close`].
    pub(super) fn cohort(&self) -> CohortLatency {
        let calls = f64::from(self.count);
        CohortLatency { calls, actual: self.sum, expected: calls * self.expected(self.mean()) }
    }

    /// Replaces the mean without load by that of the cohort.
    pub(super) fn replace(&mut self) {
        if self.count > 0 {
            (self.unloaded, self.samples) = (self.mean(), f64::from(self.count));
        }
    }

    /// Takes the cohort, which was one without load, into the mean. `variation` is the standard deviation of latencies, by their mean.
    pub(super) fn learn(&mut self, variation: f64) {
        if self.count == 0 {
            return;
        }
        let (mean, count) = (self.mean(), f64::from(self.count));
        let error = variation * (1.0 / count + 1.0 / self.samples.max(1.0)).sqrt() * self.unloaded;
        if self.unloaded == 0.0 || (mean - self.unloaded).abs() > SURPRISING * error {
            self.replace();
        } else {
            self.samples = (self.samples + count).min(MAX_SAMPLES);
            self.unloaded += (mean - self.unloaded) * (count / self.samples).min(1.0);
        }
    }

    /// Returns the standard error of the mean without load, by the mean.
    pub(super) fn error(&self, variation: f64) -> f64 {
        let samples = self.samples.max(1.0);
        // The first calls may all be quick ones by chance.
        let variance = (variation * variation * samples + DOUBT) / (samples + DOUBTED_SAMPLES);
        (variance / samples).sqrt()
    }

    /// Begins the next cohort.
    pub(super) fn next_cohort(&mut self) {
        if self.window_shortest == 0.0 {
            self.shortest *= FORGET;
        } else {
            let longer = (self.window_shortest - self.shortest).max(0.0);
            self.shortest = self.shortest.min(self.window_shortest) + RISE * longer;
        }
        (self.sum, self.count, self.window_shortest) = (0.0, 0, 0.0);
    }

    fn mean(&self) -> f64 {
        self.sum / f64::from(self.count.max(1))
    }

    fn expected(&self, otherwise: f64) -> f64 {
        if self.unloaded > 0.0 { self.unloaded } else { otherwise }
    }

    fn bounded(&self, latency: f64) -> f64 {
        if self.unloaded > 0.0 { latency.min(MAX_SLOWDOWN * self.unloaded) } else { latency }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(seen: f64, expected: f64) {
        assert!((seen - expected).abs() < 1e-9, "{seen}, not {expected}");
    }

    /// A method of which this many calls have taken this long, and no more is known.
    fn known(calls: u32, latency: f64) -> MethodLatency {
        let mut method = of(calls, latency);
        method.replace();
        method.next_cohort();
        method
    }

    fn of(calls: u32, latency: f64) -> MethodLatency {
        let mut method = MethodLatency::default();
        add(&mut method, calls, latency);
        method
    }

    fn add(method: &mut MethodLatency, calls: u32, latency: f64) {
        for _ in 0..calls {
            method.started(0.0);
            method.ended(0.0, latency, true);
        }
    }

    #[test]
    fn call_is_compared_with_the_usual_latency_once_that_is_known() {
        let mut method = MethodLatency::default();
        method.started(1.0);
        assert_eq!(method.ended(1.0, 4.0, true), Some(1.0));
        method.started(2.0);
        assert_eq!(method.ended(2.0, 100.0, false), None);
        method.replace();
        assert_near(method.unloaded, 4.0);
        method.started(3.0);
        assert_eq!(method.ended(3.0, 6.0, true), Some(1.5));
        method.started(4.0);
        assert_eq!(method.ended(4.0, 1e9, true), Some(MAX_SLOWDOWN));
    }

    #[test]
    fn calls_that_run_for_longer_than_usual_count_with_their_age() {
        let mut method = known(1, 2.0);
        assert_eq!(method.close(10.0), (0.0, 0.0));
        for began in [6.0, 10.0] {
            method.started(began);
        }
        assert_eq!(method.close(10.0), (0.0, 0.0), "on average they are as old as calls get");
        for began in [6.0, 10.0, 7.0] {
            method.started(began);
        }
        method.ended(7.0, 1.0, false);
        assert_eq!(method.close(12.0), (2.0, 2.0));
        let CohortLatency { calls, actual, expected } = method.cohort();
        assert_eq!((calls, actual, expected), (2.0, 8.0, 4.0));
        assert_eq!(method.close(99.0), (0.0, 0.0), "they are counted once");
    }

    #[test]
    fn cohort_of_an_unknown_method_is_as_expected() {
        let CohortLatency { calls, actual, expected } = of(4, 3.0).cohort();
        assert_eq!((calls, actual, expected), (4.0, 12.0, 12.0));
    }

    #[test]
    fn usual_latency_moves_with_what_does_not_surprise() {
        let mut method = known(16, 1.0);
        add(&mut method, 16, 2.0);
        method.learn(1.0);
        assert_near(method.unloaded, 1.5);
        assert_near(method.samples, 32.0);
        let mut method = known(16, 1.0);
        add(&mut method, 16, 2.1);
        method.learn(1.0);
        assert_near(method.unloaded, 2.1);
        assert_near(method.samples, 16.0);
        let mut method = known(16, 1.0);
        method.learn(1.0);
        assert_near(method.unloaded, 1.0);
        let mut method = of(3, 5.0);
        method.learn(1.0);
        assert_near(method.unloaded, 5.0);
        let mut method = known(200, 1.0);
        add(&mut method, 100, 1.1);
        method.learn(1.0);
        assert_near(method.samples, MAX_SAMPLES);
        assert_near(method.unloaded, 1.0 + 0.1 * 100.0 / MAX_SAMPLES);
    }

    #[test]
    fn error_falls_with_the_samples() {
        assert_near(MethodLatency::default().error(1.0), (3.0_f64 / 9.0).sqrt());
        assert_near(known(16, 1.0).error(1.0), (18.0_f64 / 24.0 / 16.0).sqrt());
        assert_near(known(16, 1.0).error(0.5), (6.0_f64 / 24.0 / 16.0).sqrt());
    }

    #[test]
    fn shortest_latency_rises_slowly_and_falls_at_once() {
        let mut method = MethodLatency::default();
        for (latency, shortest) in [(5.0, 5.0), (7.0, 5.0), (3.0, 3.0)] {
            method.note_shortest(latency);
            assert_near(method.shortest, shortest);
        }
        method.next_cohort();
        assert_near(method.shortest, 3.0 * FORGET);
        method.note_shortest(2.0);
        add(&mut method, 1, 6.0);
        add(&mut method, 1, 4.0);
        add(&mut method, 1, 5.0);
        method.next_cohort();
        assert_near(method.shortest, 2.0 + RISE * 2.0);
        add(&mut method, 1, 1.0);
        method.next_cohort();
        assert_near(method.shortest, 1.0);
        assert_eq!(method.cohort().calls, 0.0);
    }
}
