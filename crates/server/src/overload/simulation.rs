//! Tests of [`ConcurrencyLaw`] in virtual time: a server works on a number of calls at once, the others wait inside of handlers,
//! and there are always calls to be started.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::law::{Cohort, ConcurrencyLaw};

const MS: Duration = Duration::from_millis(1);

/// A server whose handlers work on `capacity` calls at once.
struct Simulation {
    law: ConcurrencyLaw,
    now: Instant,
    capacity: usize,
    /// The time of each method's work, and the part of it that is exponential.
    work: Vec<Duration>,
    noise: f64,
    /// The calls that are worked on, by their ends; with their methods and beginnings.
    working: BinaryHeap<Reverse<(Instant, usize, Call)>>,
    /// The calls that wait inside of their handlers.
    waiting: VecDeque<(usize, Call)>,
    /// The part of the limit that is used, or all of it.
    used: f64,
    random: fastrand::Rng,
    ended: u32,
}

/// A call that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    began: Instant,
    cohort: Cohort,
}

impl Simulation {
    fn new(capacity: usize, work: &[Duration], noise: f64) -> Self {
        let now = Instant::now();
        Self {
            law: ConcurrencyLaw::new(work.len(), now),
            now,
            capacity,
            work: work.to_vec(),
            noise,
            working: BinaryHeap::new(),
            waiting: VecDeque::new(),
            used: 1.0,
            random: fastrand::Rng::with_seed(7),
            ended: 0,
        }
    }

    /// Runs for this time. Returns the calls that ended in it, as a part of those that the server can work on.
    fn run(&mut self, time: Duration) -> f64 {
        let until = self.now + time;
        self.ended = 0;
        let mut worked = 0.0;
        loop {
            self.start();
            let Some(Reverse((end, method, call))) = self.working.pop() else { break };
            if end > until {
                self.working.push(Reverse((end, method, call)));
                break;
            }
            self.now = end;
            self.ended += 1;
            worked += self.work[method].as_secs_f64();
            self.law.ended(method, call.cohort, self.now - call.began, true, self.now);
            while self.working.len() < self.capacity
                && let Some((method, call)) = self.waiting.pop_front()
            {
                self.work_on(method, call);
            }
        }
        self.now = until;
        worked / (time.as_secs_f64() * self.capacity as f64)
    }

    fn start(&mut self) {
        while ((self.working.len() + self.waiting.len()) as f64) < self.law.limit() as f64 * self.used {
            let method = self.random.usize(..self.work.len());
            let cohort = self.law.started(method, self.working.len() + self.waiting.len() + 1, self.now);
            let call = Call { began: self.now, cohort };
            if self.working.len() < self.capacity {
                self.work_on(method, call);
            } else {
                self.waiting.push_back((method, call));
            }
        }
        if self.used >= 1.0 {
            self.law.found_full(true);
        }
    }

    fn work_on(&mut self, method: usize, call: Call) {
        let random = -self.random.f64().max(1e-9).ln();
        let work = self.work[method].mul_f64(1.0 - self.noise + self.noise * random);
        self.working.push(Reverse((self.now + work, method, call)));
    }

    /// Returns the limit by the capacity.
    fn ratio(&self) -> f64 {
        self.law.state().limit as f64 / self.capacity as f64
    }
}

#[test]
fn limit_finds_the_capacity() {
    for (capacity, work, noise) in [
        (2, 10 * MS, 0.0),
        (4, 100 * MS, 0.0),
        (8, 5 * MS, 0.5),
        (8, 50 * MS, 1.0),
        (50, 20 * MS, 0.3),
        (400, 100 * MS, 0.3),
        (1000, 30 * MS, 0.0),
    ] {
        let mut simulation = Simulation::new(capacity, &[work], noise);
        simulation.run(100 * work);
        let goodput = simulation.run(200 * work);
        let ratio = simulation.ratio();
        // The limit tolerates more if latencies vary.
        assert!((0.95..=1.6 + 0.6 * noise).contains(&ratio), "{capacity}, {work:?}, {noise}: {ratio}");
        assert!(goodput > 0.93, "{capacity}, {work:?}, {noise}: {goodput}");
    }
}

#[test]
fn methods_of_different_latencies_are_judged_each_by_its_own() {
    let mut simulation = Simulation::new(20, &[2 * MS, 200 * MS], 0.0);
    simulation.run(Duration::from_secs(10));
    let goodput = simulation.run(Duration::from_secs(10));
    assert!(goodput > 0.9, "{goodput}");
    assert!((0.9..=2.5).contains(&simulation.ratio()), "{}", simulation.ratio());
}

#[test]
fn server_that_becomes_slower_is_not_taken_for_overloaded() {
    let mut simulation = Simulation::new(16, &[20 * MS], 0.2);
    simulation.run(Duration::from_secs(10));
    simulation.work = vec![100 * MS];
    simulation.run(Duration::from_secs(10));
    let goodput = simulation.run(Duration::from_secs(10));
    assert!(goodput > 0.9, "{goodput}");
}

#[test]
fn limit_follows_a_capacity_that_falls_and_rises() {
    let mut simulation = Simulation::new(32, &[20 * MS], 0.2);
    simulation.run(Duration::from_secs(10));
    simulation.capacity = 8;
    simulation.run(Duration::from_secs(10));
    let fell = simulation.ratio();
    simulation.capacity = 32;
    simulation.run(Duration::from_secs(5));
    let goodput = simulation.run(Duration::from_secs(5));
    assert!((0.9..=1.7).contains(&fell), "{fell}");
    assert!(goodput > 0.9, "{goodput}");
}

#[test]
fn probes_get_rarer_while_they_find_nothing_new() {
    let mut simulation = Simulation::new(8, &[10 * MS], 0.0);
    simulation.run(Duration::from_secs(2));
    let (mut begins, mut was_probing) = (Vec::<u32>::new(), false);
    for at in 0..12_000_u32 {
        simulation.run(5 * MS);
        let is_probing = simulation.law.limit() < simulation.law.usual_limit();
        if is_probing && !was_probing {
            begins.push(at);
        }
        was_probing = is_probing;
    }
    let gaps: Vec<_> = begins.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Each pause is twice the one before, up to the longest.
    assert!(gaps[1] > gaps[0] * 3 / 2 && gaps[2] > gaps[1] * 5 / 4, "{gaps:?}");
    assert!(gaps.len() > 4 && gaps[3..].iter().all(|gap| gap.abs_diff(gaps[2]) < gaps[2] / 10), "{gaps:?}");
}

#[test]
fn limit_that_is_not_used_stays() {
    let mut simulation = Simulation::new(32, &[20 * MS], 0.2);
    simulation.run(Duration::from_secs(10));
    simulation.used = 0.3;
    simulation.run(Duration::from_secs(1));
    let limit = simulation.law.state().limit;
    simulation.run(Duration::from_secs(10));
    assert_eq!(simulation.law.state().limit, limit);
    let unloaded = simulation.law.unloaded(0).unwrap();
    assert!((18 * MS..=22 * MS).contains(&unloaded), "{unloaded:?}");
}

#[test]
fn unknown_method_and_calls_that_were_stopped_change_nothing() {
    let now = Instant::now();
    let mut law = ConcurrencyLaw::new(1, now);
    assert_eq!((law.typical(), law.shortest(0), law.unloaded(7)), (None, None, None));
    for n in 0..3 {
        let cohort = law.started(3, 1, now + n * MS);
        law.ended(3, cohort, MS, true, now + n * MS + MS);
    }
    assert_eq!(law.typical(), None);
    for n in 0..100 {
        let cohort = law.started(0, 1, now + (100 + n) * MS);
        law.ended(0, cohort, 10 * MS, true, now + (110 + n) * MS);
    }
    assert_eq!((law.typical(), law.unloaded(0)), (Some(10 * MS), Some(10 * MS)));
    let (cohort, known) = (law.started(0, 1, now + 299 * MS), law.shortest(0));
    law.ended(0, cohort, MS, false, now + 300 * MS);
    assert_eq!((known, law.shortest(0)), (Some(10 * MS), Some(10 * MS)));
    assert!(law.retry_after() >= 50 * MS);
}

#[test]
fn refused_callers_come_later_the_more_are_refused_for_each_call() {
    for (refused, expected) in [(0, 50 * MS), (3, 200 * MS), (1000, 2000 * MS)] {
        let mut now = Instant::now();
        let mut law = ConcurrencyLaw::new(1, now);
        for _ in 0..1000 {
            let cohort = law.started(0, 1, now);
            (0..refused).for_each(|_| law.refused());
            now += 10 * MS;
            law.ended(0, cohort, 10 * MS, true, now);
        }
        let after = law.retry_after();
        assert!(after.abs_diff(expected) < expected / 10, "{refused}: {after:?}");
    }
}
