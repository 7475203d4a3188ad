//! [`ConcurrencyLaw`]: how many calls may run at once, found out from how long they take. It has no clock, no locks and
//! no tasks: [`super::control`] feeds it.
//!
//! The law is one of congestion control, as TCP's: more calls than the server can work on do not raise its throughput but
//! their latency. So the limit rises while calls that wait for a place find the others as quick as without load, and falls
//! by the part by which they are slower. From brpc's limiter it has the unloaded latency that is measured again at a lowered limit
//! from time to time; from Netflix's `Gradient2Limit` the limit that follows a ratio of latencies; from TCP Vegas (Brakmo and
//! Peterson, 1994) that the ratio is one to the latency without a queue. Each comparison is one of two means, and counts if it is
//! outside of their standard errors. `docs/OVERLOAD.md` compares them.

use std::time::Duration;

use tokio::time::Instant;

use super::latency::{CohortLatency, MethodLatency};

/// The limit of calls that run at once, and what is known of their latencies.
#[derive(Debug)]
pub(crate) struct ConcurrencyLaw {
    limit: f64,
    /// The part of the limit by which it rises next; doubled with each rise in a row.
    step: f64,
    methods: Vec<MethodLatency>,
    /// The mean latency of the calls of the last windows, without load, in seconds; zero before the first.
    typical: f64,
    /// The standard deviation of a method's latencies, by their mean.
    variation: f64,
    window: Window,
    probe: Probe,
    /// The falls of the limit in a row; `None` if it did not fall by the last decision.
    fall: Option<Fall>,
    /// Refused calls for each one that was started in the last window.
    refused_share: f64,
}

/// The calls from which the law learns next: a cohort of those that began after its last decision had its effect. All of
/// them count, quick or slow, or those that end first would make the server look quick.
#[derive(Debug)]
struct Window {
    number: u32,
    began: Instant,
    /// The calls to be started before the cohort: until then, those from before the decision are still among the others.
    settling: u32,
    /// The calls of the cohort that are still to be started, and its size.
    missing: u32,
    size: u32,
    /// Those that run.
    running: u32,
    /// Those that have ended.
    calls: u32,
    /// The sum of the ratios of their latencies to those without load, and of the squares.
    ratios: f64,
    squares: f64,
    /// The most calls that ran at once.
    peak: usize,
    /// `true` if a call found the limit reached, and if one did so in overload.
    was_full: bool,
    was_overloaded: bool,
    started: u32,
    refused: u32,
}

/// The cohort that a call belongs to, if it belongs to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cohort(u32);

/// The measurement of latencies without load, at a lowered limit.
#[derive(Debug)]
struct Probe {
    /// The limit to return to; `None` if none is under way.
    return_to: Option<f64>,
    /// The ratio of the latencies without load after and before its windows so far.
    change: f64,
    next: Option<Instant>,
    interval: Duration,
    /// `true` if the last one has confirmed what was known.
    is_confirmed: bool,
}

/// Falls of the limit in a row.
#[derive(Clone, Copy, Debug)]
struct Fall {
    /// The limit before the first.
    from: f64,
    /// The limit from which the next effect is looked for, and the slowdown at it.
    limit: f64,
    slowdown: f64,
    /// The effects that were not there: calls were as slow as before.
    in_vain: u32,
}

/// The state of the law, for observers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LawState {
    pub(crate) limit: usize,
    pub(crate) typical: Option<Duration>,
}

/// The limit at first: low, so that the latency without load is known before the limit is reached; it then rises fast.
const INITIAL_LIMIT: f64 = 4.0;
/// The smallest limit: with one call at a time, its answer is on its way while the next one could run.
const MIN_LIMIT: f64 = 2.0;
/// The largest limit, which [`Limits::max_in_flight_in_all`](crate::Limits::max_in_flight_in_all) is below.
const MAX_LIMIT: f64 = 1_000_000.0;
/// Calls may be this much slower than without load before the limit falls, and more if their latencies vary, by their standard
/// deviation: less, and noise lowers it; more, and latencies are longer in overload.
const TOLERANCE: f64 = 0.15;
const TOLERANCE_OF_VARIATION: f64 = 0.3;
/// The standard errors that tell a change from noise.
const CERTAIN: f64 = 2.0;
const SURPRISING: f64 = 3.0;
/// The parts of the limit by which it rises, at least and at most, and to which it falls in one window; the least by which it rises.
const MIN_STEP: f64 = 0.05;
const MAX_STEP: f64 = 0.5;
const MIN_RISE: f64 = 0.5;
/// The same until the limit has fallen for the first time.
const FIRST_STEP: f64 = 2.0;
const MAX_FALL: f64 = 0.6;
/// The calls of a cohort: several for each place, so that single ones count for little, within these, and half as many as there
/// are places. This many times the square of the variation more, and at most [`MAX_VARIED_COHORT`].
const COHORT_PER_PLACE: f64 = 4.0;
const MIN_COHORT: f64 = 16.0;
const MAX_COHORT: f64 = 64.0;
const COHORT_OF_VARIATION: f64 = 2.0;
const MAX_VARIED_COHORT: f64 = 256.0;
/// The time after which the law decides without the calls of a cohort that have not ended: this many usual latencies, within these.
const WINDOW_LATENCIES: f64 = 8.0;
const MIN_WINDOW: Duration = Duration::from_millis(100);
const MAX_WINDOW: Duration = Duration::from_secs(5);
/// The calls that tell something at that time, at least.
const MIN_CALLS: u32 = 8;
/// The limit during a probe, as a part of the one before.
const PROBE_PART: f64 = 0.75;
const FIRST_PROBE_PART: f64 = 0.6;
/// The windows between probes, at least and at most: a window costs up to a quarter of the throughput.
const MIN_PROBE_WINDOWS: u32 = 8;
const MAX_PROBE_WINDOWS: u32 = 100;
/// A probe that changes the latency without load by less than this confirms it.
const CONFIRMED: f64 = 0.1;
/// The part of the limit under which a fall has an effect if the number of calls makes them slow.
const EFFECTIVE: f64 = 0.9;
/// The falls without effect after which calls count as slower for another reason than their number.
const FALLS_IN_VAIN: u32 = 2;
/// The variation that the size of the first cohort is for.
const FIRST_VARIATION: f64 = 0.7;
/// The part of a new variation of latencies that is taken over.
const LEARNED: f64 = 0.25;
/// The most that the variation of latencies makes calls wait longer.
const MAX_BURSTINESS: f64 = 4.0;
/// The times after which refused callers are asked to come again.
const MIN_RETRY_AFTER: Duration = Duration::from_millis(50);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(2);

impl ConcurrencyLaw {
    /// Creates the law of a server with this number of methods.
    pub(crate) fn new(methods: usize, now: Instant) -> Self {
        Self {
            limit: INITIAL_LIMIT,
            step: FIRST_STEP,
            methods: vec![MethodLatency::default(); methods],
            typical: 0.0,
            variation: 0.0,
            window: Window::new(1, INITIAL_LIMIT, FIRST_VARIATION, now),
            fall: None,
            probe: Probe {
                return_to: None,
                change: 1.0,
                next: None,
                interval: Duration::ZERO,
                is_confirmed: false,
            },
            refused_share: 0.0,
        }
    }

    /// Returns the number of calls that may run at once.
    pub(crate) const fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Returns the limit between probes.
    pub(crate) fn usual_limit(&self) -> usize {
        self.probe.return_to.unwrap_or(self.limit) as usize
    }

    /// Returns by how much longer a queue is than one of calls that take the same time each: the formula of Pollaczek and Khinchine.
    pub(crate) fn burstiness(&self) -> f64 {
        1.0 + (self.variation * self.variation).min(MAX_BURSTINESS - 1.0)
    }

    /// Returns the state for observers: the limit between probes.
    pub(crate) fn state(&self) -> LawState {
        LawState { limit: self.usual_limit(), typical: self.typical() }
    }

    /// Returns the mean latency of the last calls without load; `None` before the first window has ended.
    pub(crate) fn typical(&self) -> Option<Duration> {
        (self.typical > 0.0).then(|| Duration::from_secs_f64(self.typical))
    }

    /// Returns the mean latency of a method without load; `None` if it is not known.
    pub(crate) fn unloaded(&self, method: usize) -> Option<Duration> {
        let unloaded = self.methods.get(method)?.unloaded;
        (unloaded > 0.0).then(|| Duration::from_secs_f64(unloaded))
    }

    /// Returns the latency of the quickest of the last calls of a method; `None` if it is not known.
    pub(crate) fn shortest(&self, method: usize) -> Option<Duration> {
        let shortest = self.methods.get(method)?.shortest;
        (shortest > 0.0).then(|| Duration::from_secs_f64(shortest))
    }

    /// Returns the time after which a refused caller should come again: the more calls are refused for each that is
    /// started, the later.
    pub(crate) fn retry_after(&self) -> Duration {
        let wanted = self.typical.max(MIN_RETRY_AFTER.as_secs_f64()) * (1.0 + self.refused_share);
        Duration::from_secs_f64(wanted.min(MAX_RETRY_AFTER.as_secs_f64())).max(MIN_RETRY_AFTER)
    }

    /// Notes that a call was started, as one of `running`. Returns what [`ConcurrencyLaw::ended`] is told of it.
    pub(crate) fn started(&mut self, method: usize, running: usize, now: Instant) -> Cohort {
        let window = &mut self.window;
        window.started += 1;
        window.peak = window.peak.max(running);
        if window.settling > 0 {
            window.settling -= 1;
        } else if window.missing > 0
            && let Some(known) = self.methods.get_mut(method)
        {
            window.missing -= 1;
            window.running += 1;
            known.started(window.since_began(now));
            return Cohort(window.number);
        }
        Cohort(0)
    }

    /// Notes that a call found the limit reached, and whether that is overload.
    pub(crate) const fn found_full(&mut self, is_overload: bool) {
        self.window.was_full = true;
        self.window.was_overloaded |= is_overload;
    }

    /// Notes that a call was refused.
    pub(crate) const fn refused(&mut self) {
        self.window.refused += 1;
    }

    /// Notes that a call of a cohort ended after this time. A call that was stopped before its end has `completed` false: it
    /// would have taken longer.
    pub(crate) fn ended(
        &mut self,
        method: usize,
        cohort: Cohort,
        took: Duration,
        completed: bool,
        now: Instant,
    ) {
        let latency = took.as_secs_f64().max(1e-6);
        let Some(known) = self.methods.get_mut(method) else { return };
        // What was stopped early tells nothing.
        let counts = completed || latency > known.unloaded;
        if counts {
            known.note_shortest(latency);
        }
        if cohort.0 == self.window.number {
            let began = self.window.since_began(now) - took.as_secs_f64();
            self.window.running -= 1;
            if let Some(ratio) = known.ended(began, latency, counts) {
                self.window.calls += 1;
                self.window.ratios += ratio;
                self.window.squares += ratio * ratio;
            }
        }
        self.advance(now);
    }

    /// Ends the window if it is over.
    pub(crate) fn advance(&mut self, now: Instant) {
        let window = &self.window;
        let lasted = now.saturating_duration_since(window.began);
        let is_whole = window.missing == 0 && window.running == 0;
        let is_late = || {
            // The latencies in which its calls start, if those before end, and those in which they end.
            let latencies = WINDOW_LATENCIES + f64::from(window.size) / self.limit;
            let wanted = Duration::from_secs_f64(latencies * self.typical).clamp(MIN_WINDOW, MAX_WINDOW);
            lasted >= MAX_WINDOW || lasted >= wanted && window.calls >= MIN_CALLS
        };
        if is_whole || is_late() {
            self.decide(now);
        }
    }

    /// Sets the limit by what the window has shown, and begins the next one.
    fn decide(&mut self, now: Instant) {
        let number = self.window.number.wrapping_add(1).max(1);
        let next = Window::new(number, self.limit, self.variation, now);
        let mut window = std::mem::replace(&mut self.window, next);
        self.refused_share = f64::from(window.refused) / f64::from(window.started.max(1));
        for known in &mut self.methods {
            let (calls, ratio) = known.close(window.since_began(now));
            window.calls += calls as u32;
            window.ratios += calls * ratio;
            window.squares += calls * ratio * ratio;
        }
        self.adjust(&window, now);
        for known in &mut self.methods {
            known.next_cohort();
        }
        self.window.resize(self.limit, self.variation);
    }

    fn adjust(&mut self, window: &Window, now: Instant) {
        let (fall, lasted) = (self.fall.take(), now - window.began);
        if window.calls < MIN_CALLS {
            self.end_probe(1.0);
            return;
        }
        let variation = window.variation();
        self.variation += LEARNED * (variation - self.variation);
        let variation = variation.max(self.variation);
        let (slowdown, error) = self.slowdown(variation);
        let tolerance = 1.0 + TOLERANCE + TOLERANCE_OF_VARIATION * variation;
        if let Some(return_to) = self.probe.return_to {
            self.probe.change *= self.learn(|known| known.learn(variation));
            if slowdown + CERTAIN * error < 1.0 - CONFIRMED && self.limit > MIN_LIMIT {
                // There was load, and there may be some yet.
                self.limit = (self.limit * PROBE_PART).max(MIN_LIMIT);
                return;
            }
            self.probe.is_confirmed = (self.probe.change - 1.0).abs() < CONFIRMED;
            let limit = (return_to * (tolerance * self.probe.change).min(1.0)).max(self.limit);
            self.end_probe(limit / return_to);
            let (min, max) = (lasted * MIN_PROBE_WINDOWS, lasted * MAX_PROBE_WINDOWS);
            let interval = if self.probe.is_confirmed { self.probe.interval * 2 } else { Duration::ZERO };
            self.probe.interval = interval.clamp(min, max);
            self.probe.next = Some(now + self.probe.interval);
            return;
        }
        // Until the limit has fallen, little is known, and a fall ends its quick rise.
        let is_new = self.step == FIRST_STEP;
        let is_slow = slowdown - if is_new { SURPRISING } else { CERTAIN } * error > tolerance;
        // A lower limit that does not make calls quicker shows that it is not their number that makes them slow.
        let fall = fall.map(|fall| {
            let part = self.limit / fall.limit;
            let half = fall.slowdown * (1.0 + part) / 2.0;
            if part < EFFECTIVE {
                let in_vain = fall.in_vain + u32::from(slowdown - error > half);
                Fall { limit: self.limit, slowdown, in_vain, ..fall }
            } else {
                fall
            }
        });
        let is_slower_anyway = is_slow && fall.is_some_and(|fall| fall.in_vain >= FALLS_IN_VAIN);
        let is_idle = !window.was_full && window.peak as f64 <= self.limit / 2.0;
        let is_first = is_new && slowdown < 1.0 + SURPRISING * error;
        let is_quick = slowdown + SURPRISING * error < 1.0;
        self.learn(|known| {
            if is_slower_anyway {
                known.replace();
            } else if is_idle || is_first || is_quick || known.unloaded == 0.0 {
                known.learn(variation);
            }
        });
        if let (true, Some(fall)) = (is_slower_anyway, fall) {
            self.limit = fall.from;
            return;
        }
        if !window.was_full {
            return;
        }
        if is_slow {
            let first = Fall { from: self.limit, limit: self.limit, slowdown, in_vain: 0 };
            self.fall = Some(fall.unwrap_or(first));
            self.limit = (self.limit * (tolerance / (slowdown - error)).max(MAX_FALL)).max(MIN_LIMIT);
            self.step = MIN_STEP;
            return;
        }
        let next = *self.probe.next.get_or_insert(now + lasted * MIN_PROBE_WINDOWS);
        if next <= now && window.was_overloaded {
            let part = if self.probe.is_confirmed { PROBE_PART } else { FIRST_PROBE_PART };
            (self.probe.return_to, self.probe.change) = (Some(self.limit), 1.0);
            self.limit = (self.limit * part).max(MIN_LIMIT);
        } else if slowdown <= f64::midpoint(1.0, tolerance) {
            self.limit = (self.limit + (self.limit * self.step).max(MIN_RISE)).min(MAX_LIMIT);
            if self.step < FIRST_STEP {
                self.step = (2.0 * self.step).min(MAX_STEP);
            }
        } else if !is_first {
            self.step = MIN_STEP;
        }
    }

    /// Returns to this part of the limit before the probe, if one is under way.
    fn end_probe(&mut self, part: f64) {
        if let Some(limit) = self.probe.return_to.take() {
            self.limit = (part * limit).max(MIN_LIMIT);
        }
    }

    /// Lets `set` change what is known of each method that has calls in the cohort. Returns the ratio of the latencies without
    /// load after that and before.
    fn learn(&mut self, set: impl Fn(&mut MethodLatency)) -> f64 {
        let before = self.cohort().expected;
        self.methods.iter_mut().for_each(set);
        let CohortLatency { calls, expected: after, .. } = self.cohort();
        self.typical = after / calls;
        after / before
    }

    fn cohort(&self) -> CohortLatency {
        self.methods.iter().map(MethodLatency::cohort).fold(CohortLatency::default(), |sum, of_method| {
            CohortLatency {
                calls: sum.calls + of_method.calls,
                actual: sum.actual + of_method.actual,
                expected: sum.expected + of_method.expected,
            }
        })
    }

    /// Returns how many times as long the calls of the cohort took as without load, and the standard error of that, since
    /// latencies differ without any load, and what is known of them without load is a mean, too.
    fn slowdown(&self, variation: f64) -> (f64, f64) {
        let cohort = self.cohort();
        let slowdown = cohort.actual / cohort.expected;
        let of_known = self.methods.iter().map(|known| known.cohort().expected * known.error(variation));
        let of_known = of_known.sum::<f64>() / cohort.expected;
        let of_cohort = variation / cohort.calls.sqrt();
        (slowdown, slowdown * of_cohort.hypot(of_known))
    }
}

impl Window {
    fn new(number: u32, limit: f64, variation: f64, now: Instant) -> Self {
        let mut window = Self {
            number,
            began: now,
            settling: 0,
            missing: 0,
            size: 0,
            running: 0,
            calls: 0,
            ratios: 0.0,
            squares: 0.0,
            peak: 0,
            was_full: false,
            was_overloaded: false,
            started: 0,
            refused: 0,
        };
        window.resize(limit, variation);
        window
    }

    /// Sets the size of the cohort for this limit.
    fn resize(&mut self, limit: f64, variation: f64) {
        let half = limit as u32 / 2;
        let size = (COHORT_PER_PLACE * limit).clamp(MIN_COHORT, MAX_COHORT);
        let varied = size * (1.0 + COHORT_OF_VARIATION * variation * variation);
        self.size = (varied.min(MAX_VARIED_COHORT) as u32).max(half);
        (self.settling, self.missing) = (half, self.size);
    }

    fn since_began(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.began).as_secs_f64()
    }

    /// Returns the standard deviation of the latencies, by their mean.
    fn variation(&self) -> f64 {
        let calls = f64::from(self.calls);
        let mean = self.ratios / calls;
        (self.squares / calls - mean * mean).max(0.0).sqrt() / mean
    }
}
