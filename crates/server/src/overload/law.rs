//! [`ConcurrencyLaw`]: how many calls may run at once, found out from how long they take. It has no clock, no locks and
//! no tasks: [`super::admission`] feeds it.
//!
//! The law is one of congestion control, as TCP's: more calls than the server can work on do not raise its throughput but
//! their latency. So the limit rises while calls that wait for a place find the others as quick as without load, and falls
//! by the part by which they are slower. From brpc's limiter it has the unloaded latency that is measured again at a lowered limit
//! from time to time; from Netflix's `Gradient2Limit` the limit that follows a ratio of latencies; from TCP Vegas (Brakmo and
//! Peterson, 1994) that the ratio is one to the latency without a queue. `docs/OVERLOAD.md` compares them.

use std::time::Duration;

use tokio::time::Instant;

/// The limit of calls that run at once, and what is known of their latencies.
#[derive(Debug)]
pub(crate) struct ConcurrencyLaw {
    limit: f64,
    /// The part of the limit by which it rises next; doubled with each rise in a row.
    step: f64,
    methods: Vec<MethodLatency>,
    /// The mean latency of the calls of the last windows, without load, in seconds; zero before the first.
    typical: f64,
    window: Window,
    probe: Probe,
    /// The falls of the limit in a row; `None` if it did not fall by the last decision.
    fall: Option<Fall>,
    /// Refused calls for each one that was started in the last window.
    refused_share: f64,
}

/// The latencies of one method, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct MethodLatency {
    /// The mean without load; zero before the first measurement.
    unloaded: f64,
    /// The shortest of the last windows; zero before the first call has ended.
    shortest: f64,
    /// The sum and the number of those of the current window, and the shortest.
    sum: f64,
    count: u32,
    window_shortest: f64,
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
    /// Those that have ended.
    calls: u32,
    /// Their latencies, and what they would be without load, in seconds.
    actual: f64,
    expected: f64,
    /// The sum of the squares of their ratios.
    squares: f64,
    /// The most calls that ran at once.
    peak: usize,
    /// `true` if a call found the limit reached.
    was_full: bool,
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
}

/// Falls of the limit in a row.
#[derive(Clone, Copy, Debug)]
struct Fall {
    /// The limit before the first.
    from: f64,
    /// The limit and the slowdown before the last.
    limit: f64,
    slowdown: f64,
    /// Those after which calls were as slow as before.
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
/// Calls may be this much slower than without load before the limit falls: less, and noise lowers it; more, and latencies
/// are longer in overload.
const TOLERANCE: f64 = 1.15;
/// The parts of the limit by which it rises, at least and at most, and to which it falls in one window.
const MIN_STEP: f64 = 0.05;
const MAX_STEP: f64 = 0.1;
/// The same until the limit has fallen for the first time.
const FIRST_STEP: f64 = 2.0;
const MAX_FALL: f64 = 0.6;
/// The calls of a cohort: several for each place, so that single ones count for little, within these, and half as many as there
/// are places.
const COHORT_PER_PLACE: u32 = 4;
const MIN_COHORT: u32 = 16;
const MAX_COHORT: u32 = 64;
/// The part of a cohort that may be missing when the law decides: a few calls may hang.
const MAX_MISSING: f64 = 0.1;
/// The time after which the law decides without a whole cohort: this many usual latencies, within these.
const WINDOW_LATENCIES: f64 = 8.0;
const MIN_WINDOW: Duration = Duration::from_millis(100);
const MAX_WINDOW: Duration = Duration::from_secs(5);
/// The calls that tell something at that time, at least.
const MIN_CALLS: u32 = 8;
/// One call counts as this many times its usual latency at most.
const MAX_SLOWDOWN: f64 = 32.0;
/// The limit during a probe, as a part of the one before.
const PROBE_PART: f64 = 0.6;
/// The windows between probes, at least and at most: a window costs up to [`PROBE_PART`] of the throughput.
const MIN_PROBE_WINDOWS: u32 = 8;
const MAX_PROBE_WINDOWS: u32 = 100;
/// A probe that changes the latency without load by less than this confirms it.
const CONFIRMED: f64 = 0.1;
/// The falls without effect after which calls count as slower for another reason than their number.
const FALLS_IN_VAIN: u32 = 2;
/// The standard error of a cohort's mean, as a part of it, that counts as much as what was known before.
const DOUBT: f64 = 0.1;
/// The part by which the shortest latency follows longer ones.
const RISE: f64 = 0.1;
/// The part of the shortest latency that is kept over a window without calls, so that calls that are refused since they
/// could not end in time are tried again some day.
const FORGET: f64 = 0.95;
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
            window: Window::new(1, INITIAL_LIMIT, now),
            fall: None,
            probe: Probe { return_to: None, change: 1.0, next: None, interval: Duration::ZERO },
            refused_share: 0.0,
        }
    }

    /// Returns the number of calls that may run at once.
    pub(crate) const fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Returns the state for observers: the limit between probes.
    pub(crate) fn state(&self) -> LawState {
        LawState { limit: self.probe.return_to.unwrap_or(self.limit) as usize, typical: self.typical() }
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
    pub(crate) fn started(&mut self, running: usize) -> Cohort {
        let window = &mut self.window;
        window.started += 1;
        window.peak = window.peak.max(running);
        if window.settling > 0 {
            window.settling -= 1;
        } else if window.missing > 0 {
            window.missing -= 1;
            return Cohort(window.number);
        }
        Cohort(0)
    }

    /// Notes that a call found the limit reached.
    pub(crate) const fn found_full(&mut self) {
        self.window.was_full = true;
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
        if completed || latency > known.unloaded {
            if known.shortest == 0.0 || latency < known.shortest {
                known.shortest = latency;
            }
            if cohort.0 == self.window.number {
                let latency =
                    if known.unloaded > 0.0 { latency.min(MAX_SLOWDOWN * known.unloaded) } else { latency };
                known.sum += latency;
                known.count += 1;
                known.window_shortest =
                    if known.count == 1 { latency } else { known.window_shortest.min(latency) };
                self.window.calls += 1;
                self.window.actual += latency;
                let expected = if known.unloaded > 0.0 { known.unloaded } else { latency };
                self.window.expected += expected;
                self.window.squares += (latency / expected).powi(2);
            }
        }
        self.advance(now);
    }

    /// Ends the window if it is over.
    pub(crate) fn advance(&mut self, now: Instant) {
        let window = &self.window;
        let lasted = now.saturating_duration_since(window.began);
        let is_whole =
            window.missing == 0 && f64::from(window.calls) >= f64::from(window.size) * (1.0 - MAX_MISSING);
        let wanted = Duration::from_secs_f64(WINDOW_LATENCIES * self.typical).clamp(MIN_WINDOW, MAX_WINDOW);
        if is_whole || lasted >= MAX_WINDOW || lasted >= wanted && window.calls >= MIN_CALLS {
            self.decide(now);
        }
    }

    /// Sets the limit by what the window has shown, and begins the next one.
    fn decide(&mut self, now: Instant) {
        let next = Window::new(self.window.number.wrapping_add(1).max(1), self.limit, now);
        let window = std::mem::replace(&mut self.window, next);
        self.refused_share = f64::from(window.refused) / f64::from(window.started.max(1));
        self.adjust(&window, now);
        self.window.resize(self.limit);
    }

    fn adjust(&mut self, window: &Window, now: Instant) {
        let (fall, lasted) = (self.fall.take(), now - window.began);
        if window.calls < MIN_CALLS {
            self.learn(|_, _| {});
            self.end_probe(1.0);
            return;
        }
        let (slowdown, error) = window.slowdown();
        let weight = 1.0 / (1.0 + (error / slowdown / DOUBT).powi(2));
        if let Some(return_to) = self.probe.return_to {
            let change = self.learn(|known, mean| known.unloaded += weight * (mean - known.unloaded));
            self.probe.change *= change;
            if slowdown + error < 1.0 - CONFIRMED && self.limit > MIN_LIMIT {
                // There was load, and there may be some yet.
                self.limit = (self.limit * PROBE_PART).max(MIN_LIMIT);
                return;
            }
            let confirmed = (self.probe.change - 1.0).abs() < CONFIRMED;
            let limit = (return_to * (TOLERANCE * self.probe.change).min(1.0)).max(self.limit);
            self.end_probe(limit / return_to);
            let (min, max) = (lasted * MIN_PROBE_WINDOWS, lasted * MAX_PROBE_WINDOWS);
            self.probe.interval =
                if confirmed { self.probe.interval * 2 } else { Duration::ZERO }.clamp(min, max);
            self.probe.next = Some(now + self.probe.interval);
            return;
        }
        let is_slow = slowdown - error > TOLERANCE;
        // A lower limit that does not make calls quicker shows that it is not their number that makes them slow.
        let in_vain = fall.map_or(0, |fall| {
            let part = self.limit / fall.limit;
            fall.in_vain + u32::from(part < 0.9 && slowdown > fall.slowdown * (1.0 + part) / 2.0)
        });
        let is_slower_anyway = is_slow && in_vain >= FALLS_IN_VAIN;
        let is_idle = !window.was_full && window.peak as f64 <= self.limit / 2.0;
        self.learn(|known, mean| {
            if known.unloaded == 0.0 || is_slower_anyway {
                known.unloaded = mean;
            } else if is_idle || slowdown + 2.0 * error < 1.0 {
                known.unloaded += 0.5 * weight * (mean - known.unloaded);
            }
        });
        if let (true, Some(fall)) = (is_slower_anyway, fall) {
            self.limit = fall.from;
            return;
        }
        if !window.was_full {
            return;
        }
        if slowdown <= TOLERANCE {
            self.limit = (self.limit + (self.limit * self.step).max(1.0)).min(MAX_LIMIT);
            self.step = if self.step < MAX_STEP { (2.0 * self.step).min(MAX_STEP) } else { self.step };
        } else if is_slow {
            let from = fall.map_or(self.limit, |fall| fall.from);
            self.fall = Some(Fall { from, limit: self.limit, slowdown, in_vain });
            self.limit = (self.limit * (TOLERANCE / (slowdown - error)).max(MAX_FALL)).max(MIN_LIMIT);
            self.step = MIN_STEP;
            // The next window shows whether that helps.
            return;
        }
        if *self.probe.next.get_or_insert(now + lasted * MIN_PROBE_WINDOWS) <= now {
            (self.probe.return_to, self.probe.change) = (Some(self.limit), 1.0);
            self.limit = (self.limit * PROBE_PART).max(MIN_LIMIT);
        }
    }

    /// Returns to this part of the limit before the probe, if one is under way.
    fn end_probe(&mut self, part: f64) {
        if let Some(limit) = self.probe.return_to.take() {
            self.limit = (part * limit).max(MIN_LIMIT);
        }
    }

    /// Lets `set` change what is known of each method by its mean latency of the window. Returns the ratio of the latencies without
    /// load after that and before.
    fn learn(&mut self, set: impl Fn(&mut MethodLatency, f64)) -> f64 {
        let (mut before, mut after, mut calls) = (0.0, 0.0, 0.0);
        for known in &mut self.methods {
            if known.count == 0 {
                known.shortest *= FORGET;
                continue;
            }
            let (count, mean) = (f64::from(known.count), known.sum / f64::from(known.count));
            before += count * if known.unloaded > 0.0 { known.unloaded } else { mean };
            set(known, mean);
            after += count * known.unloaded;
            calls += count;
            known.shortest = known.shortest.min(known.window_shortest)
                + RISE * (known.window_shortest - known.shortest).max(0.0);
            (known.sum, known.count) = (0.0, 0);
        }
        self.typical = after / calls;
        after / before
    }
}

impl Window {
    fn new(number: u32, limit: f64, now: Instant) -> Self {
        let mut window = Self {
            number,
            began: now,
            settling: 0,
            missing: 0,
            size: 0,
            calls: 0,
            actual: 0.0,
            expected: 0.0,
            squares: 0.0,
            peak: 0,
            was_full: false,
            started: 0,
            refused: 0,
        };
        window.resize(limit);
        window
    }

    /// Sets the size of the cohort for this limit.
    fn resize(&mut self, limit: f64) {
        let half = limit as u32 / 2;
        self.size = (COHORT_PER_PLACE * limit as u32).clamp(MIN_COHORT, MAX_COHORT).max(half);
        (self.settling, self.missing) = (half, self.size);
    }

    /// Returns how many times as long the calls took as without load, and the standard error of that, since latencies differ
    /// without any load.
    fn slowdown(&self) -> (f64, f64) {
        let (slowdown, calls) = (self.actual / self.expected, f64::from(self.calls));
        let variance = (self.squares / calls - slowdown * slowdown).max(0.0);
        (slowdown, (variance / calls).sqrt())
    }
}
