//! Tests of [`AdmissionControl`] in virtual time, over many seeds: a server works on a number of calls at once, the others that
//! were started wait inside of their handlers, and callers do not wait for one another.
//!
//! `FARCALL_OVERLOAD_SEEDS=200 cargo test --release -p farcall-server --lib sweep -- --nocapture` prints the table of
//! `docs/OVERLOAD.md`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use farcall_protocol::Criticality;
use tokio::time::Instant;

use super::control::{AdmissionControl, Arrival, Decision};
use super::law::Cohort;
use super::queue::Ticket;

const MS: Duration = Duration::from_millis(1);
/// The length of the steps in which recovery is looked for, and the calls that one has at least: of few, one is more than 5%.
const CALLS_PER_STEP: f64 = 40.0;
const STEP: Duration = Duration::from_millis(100);

/// The times that calls take, by their mean.
#[derive(Clone, Copy, Debug)]
enum Spread {
    Equal,
    /// By up to a fifth more or less.
    Fifth,
    Exponential,
    /// Nine of ten take half of the mean, the others 5.5 times it.
    Bimodal,
}

/// A server, and what its callers do.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    capacity: usize,
    work: Duration,
    spread: Spread,
    /// The load of each caller, by the capacity.
    callers: &'static [f64],
    /// The parts of the calls that are critical and sheddable.
    mix: [f64; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    GiveUp(usize),
    End(usize),
}

#[derive(Clone, Copy, Debug)]
struct Call {
    arrived: Instant,
    began: Instant,
    caller: usize,
    criticality: Criticality,
    cohort: Option<Cohort>,
    ticket: Option<Ticket>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    made: usize,
    served: usize,
}

#[derive(Clone, Debug, Default)]
struct Outcome {
    latencies: Vec<f64>,
    /// By class: sheddable, default, critical.
    classes: [Count; 3],
    callers: Vec<Count>,
    steps: Vec<Count>,
    /// Calls that ended while this was measured.
    ended: usize,
    critical_refused: usize,
    /// The length of a step.
    step: Duration,
}

struct Simulation {
    scenario: Scenario,
    /// `None` if all calls start.
    control: Option<AdmissionControl<usize>>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    last_event: u64,
    calls: Vec<Call>,
    /// The calls that wait inside of their handlers.
    inside: VecDeque<usize>,
    working: usize,
    random: fastrand::Rng,
    now: Instant,
    /// The load of all callers is this many times that of the scenario.
    part: f64,
    outcome: Outcome,
    began: Instant,
    until: Instant,
}

impl Simulation {
    fn new(scenario: Scenario, seed: u64, is_limited: bool) -> Self {
        let now = Instant::now();
        Self {
            scenario,
            control: is_limited.then(|| AdmissionControl::new(1, now)),
            events: BinaryHeap::new(),
            last_event: 0,
            calls: Vec::new(),
            inside: VecDeque::new(),
            working: 0,
            random: fastrand::Rng::with_seed(seed),
            now,
            part: 1.0,
            outcome: Outcome::default(),
            began: now,
            until: now,
        }
    }

    fn rate(&self) -> f64 {
        self.scenario.capacity as f64 / self.scenario.work.as_secs_f64()
    }

    /// Makes calls at this load, by the capacity, for this time.
    fn load(&mut self, times: f64, time: Duration) -> Outcome {
        self.part = times / self.scenario.callers.iter().sum::<f64>();
        self.outcome =
            Outcome { callers: vec![Count::default(); self.scenario.callers.len()], ..Outcome::default() };
        self.outcome.step = STEP.max(Duration::from_secs_f64(CALLS_PER_STEP / (self.rate() * times)));
        (self.began, self.until) = (self.now, self.now + time);
        self.schedule_arrival();
        while let Some(Reverse((at, number, event))) = self.events.pop() {
            if at > self.until {
                if event != Event::Arrival {
                    self.events.push(Reverse((at, number, event)));
                }
                // The calls that are under way are of the next load as far as others see them.
                break;
            }
            self.now = at;
            match event {
                Event::Arrival => self.arrive(),
                Event::GiveUp(call) => self.give_up(call),
                Event::End(call) => self.end(call),
            }
        }
        self.events.retain(|Reverse((.., event))| *event != Event::Arrival);
        self.now = self.until;
        std::mem::take(&mut self.outcome)
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.last_event += 1;
        self.events.push(Reverse((at, self.last_event, event)));
    }

    fn schedule_arrival(&mut self) {
        let rate = self.rate() * self.part * self.scenario.callers.iter().sum::<f64>();
        let pause = -self.random.f64().max(1e-12).ln() / rate;
        self.push(self.now + Duration::from_secs_f64(pause), Event::Arrival);
    }

    fn arrive(&mut self) {
        self.schedule_arrival();
        let mut of_caller = self.random.f64() * self.scenario.callers.iter().sum::<f64>();
        let caller = self.scenario.callers.iter().position(|load| {
            of_caller -= load;
            of_caller < 0.0
        });
        let [critical, sheddable] = self.scenario.mix;
        let criticality = match self.random.f64() {
            x if x < critical => Criticality::Critical,
            x if x < critical + sheddable => Criticality::Sheddable,
            _ => Criticality::Default,
        };
        let (now, id) = (self.now, self.calls.len());
        let caller = caller.unwrap_or(0);
        let mut call = Call { arrived: now, began: now, caller, criticality, cohort: None, ticket: None };
        self.count(&call, |count| count.made += 1);
        let Some(control) = &mut self.control else {
            self.calls.push(call);
            return self.start(id);
        };
        control.advance(now);
        self.calls.push(call);
        self.grant();
        let Some(control) = &mut self.control else { return };
        let arrival = Arrival { method: 0, criticality, caller: caller as u64, deadline: None };
        match control.admit(&arrival, now, || id) {
            Decision::Start => {
                call.cohort = Some(control.start(0, now));
                self.calls[id] = call;
                self.start(id);
            }
            Decision::Wait { ticket, until, evicted } => {
                if let Some((evicted, _)) = evicted {
                    self.refused(evicted);
                }
                self.calls[id].ticket = Some(ticket);
                self.push(until, Event::GiveUp(id));
            }
            Decision::Refuse(_) => self.refused(id),
        }
    }

    fn give_up(&mut self, id: usize) {
        if let (Some(control), Some(ticket)) = (&mut self.control, self.calls[id].ticket)
            && control.give_up(ticket).is_some()
        {
            self.refused(id);
        }
    }

    fn refused(&mut self, id: usize) {
        if self.calls[id].criticality == Criticality::Critical {
            self.outcome.critical_refused += 1;
        }
    }

    fn grant(&mut self) {
        let now = self.now;
        while let Some(control) = &mut self.control
            && let Some(id) = control.next()
        {
            (self.calls[id].cohort, self.calls[id].ticket) = (Some(control.start(0, now)), None);
            self.start(id);
        }
    }

    fn start(&mut self, id: usize) {
        self.calls[id].began = self.now;
        if self.working < self.scenario.capacity {
            self.work_on(id);
        } else {
            self.inside.push_back(id);
        }
    }

    fn work_on(&mut self, id: usize) {
        self.working += 1;
        let times = match self.scenario.spread {
            Spread::Equal => 1.0,
            Spread::Fifth => 0.8 + 0.4 * self.random.f64(),
            Spread::Exponential => -self.random.f64().max(1e-12).ln(),
            Spread::Bimodal if self.random.f64() < 0.9 => 0.5,
            Spread::Bimodal => 5.5,
        };
        self.push(self.now + self.scenario.work.mul_f64(times), Event::End(id));
    }

    fn end(&mut self, id: usize) {
        self.working -= 1;
        self.outcome.ended += 1;
        if let Some(next) = self.inside.pop_front() {
            self.work_on(next);
        }
        let (call, now) = (self.calls[id], self.now);
        if call.arrived >= self.began {
            self.count(&call, |count| count.served += 1);
            self.outcome.latencies.push((now - call.arrived).as_secs_f64());
        }
        if let (Some(control), Some(cohort)) = (&mut self.control, call.cohort) {
            control.end(0, cohort, now - call.began, true, now);
        }
        self.grant();
    }

    fn count(&mut self, call: &Call, set: impl Fn(&mut Count)) {
        let outcome = &mut self.outcome;
        let step = ((call.arrived - self.began).as_nanos() / outcome.step.as_nanos()) as usize;
        if outcome.steps.len() <= step {
            outcome.steps.resize(step + 1, Count::default());
        }
        let class = match call.criticality {
            Criticality::Sheddable => 0,
            Criticality::Critical => 2,
            _ => 1,
        };
        set(&mut outcome.steps[step]);
        set(&mut outcome.classes[class]);
        set(&mut outcome.callers[call.caller]);
    }
}

/// The figures of one seed.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    goodput: f64,
    p99: f64,
    critical_lost: f64,
    recovery: f64,
    /// The part of the last caller's calls that were served.
    modest: f64,
    limit: f64,
}

fn p99(latencies: &mut [f64]) -> f64 {
    latencies.sort_unstable_by(f64::total_cmp);
    latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default()
}

impl Scenario {
    fn unloaded_p99(self) -> f64 {
        let mut simulation = Simulation::new(self, 1, false);
        let time = self.work * (50_000 / self.capacity as u32);
        p99(&mut simulation.load(0.3, time).latencies)
    }

    fn run(self, seed: u64, unloaded: f64) -> Figures {
        let times = self.callers.iter().sum();
        let mut simulation = Simulation::new(self, seed, true);
        if seed % 2 == 1 {
            simulation.load(0.3, 50 * self.work);
        }
        simulation.load(times, 100 * self.work);
        // At least 3,000 calls, and 150 latencies.
        let time = self.work * (3_000 / self.capacity as u32).max(150);
        let mut during = simulation.load(times, time);
        let limit = simulation.control.as_ref().map_or(0, |control| control.overview().limit);
        let after = simulation.load(0.7, 5000 * MS);
        // The last calls of a load end after it.
        let steps = after
            .steps
            .len()
            .saturating_sub(1 + ((8 * self.work).as_nanos() / after.step.as_nanos()) as usize);
        let bad = after.steps[..steps].iter().rposition(|step| step.served * 100 < step.made * 95);
        let modest = during.callers[during.callers.len() - 1];
        Figures {
            goodput: during.ended as f64 / (time.as_secs_f64() * simulation.rate()),
            p99: p99(&mut during.latencies) / unloaded,
            critical_lost: during.critical_refused as f64,
            recovery: bad.map_or(0.0, |bad| (bad + 1) as f64 * after.step.as_secs_f64()),
            modest: modest.served as f64 / modest.made.max(1) as f64,
            limit: limit as f64 / self.capacity as f64,
        }
    }
}

const SPREADS: [Spread; 4] = [Spread::Equal, Spread::Fifth, Spread::Exponential, Spread::Bimodal];

fn quantile(figures: &[Figures], of: impl Fn(&Figures) -> f64, part: f64) -> f64 {
    let mut all: Vec<f64> = figures.iter().map(of).collect();
    all.sort_unstable_by(f64::total_cmp);
    all[((all.len() - 1) as f64 * part).round() as usize]
}

/// Runs seeds on two threads.
fn run_all(scenario: Scenario, seeds: u64) -> Vec<Figures> {
    let unloaded = scenario.unloaded_p99();
    std::thread::scope(|scope| {
        let halves = [0, 1].map(|first| {
            scope.spawn(move || -> Vec<Figures> {
                (first..seeds).step_by(2).map(|seed| scenario.run(seed, unloaded)).collect()
            })
        });
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    })
}

/// The figures of the seeds that are out of the promised bounds, in the order of [`Figures`].
fn count_bad(all: &[Figures], is_shared: bool) -> [usize; 5] {
    let is_bad: [fn(&Figures) -> bool; 5] = [
        |figures| figures.goodput < 0.9,
        |figures| figures.p99 > 2.0,
        |figures| figures.critical_lost > 0.0,
        |figures| figures.recovery > 2.0,
        |figures| figures.modest < 0.85,
    ];
    let mut bad = is_bad.map(|is_bad| all.iter().filter(|figures| is_bad(figures)).count());
    bad[4] *= usize::from(is_shared);
    bad
}

fn print_row(name: &str, all: &[Figures], is_shared: bool) {
    let of = |figure: fn(&Figures) -> f64, least: f64| {
        format!("{:.2} {:.2}", quantile(all, figure, least), quantile(all, figure, 0.5))
    };
    let modest = if is_shared { of(|figures| figures.modest, 0.0) } else { "-".to_owned() };
    println!(
        "| {name} | {} | {} | {:.0} | {} | {modest} | {} | {:?} |",
        of(|figures| figures.goodput, 0.0),
        of(|figures| figures.p99, 1.0),
        all.iter().map(|figures| figures.critical_lost).sum::<f64>(),
        of(|figures| figures.recovery, 1.0),
        of(|figures| figures.limit, 1.0),
        count_bad(all, is_shared),
    );
}

/// The loads: their names, those of each caller, and the parts of critical and sheddable calls.
const LOADS: [(&str, &[f64], [f64; 2]); 8] = [
    ("1x mixed", &[1.0], MIXED),
    ("1.2x mixed", &[1.2], MIXED),
    ("2x", &[2.0], [0.0, 0.0]),
    ("2x mixed", &[2.0], MIXED),
    ("4x mixed", &[4.0], MIXED),
    ("5x", &[5.0], [0.0, 0.0]),
    ("5x mixed", &[5.0], MIXED),
    ("4x and 0.3x", &[4.0, 0.3], [0.0, 0.0]),
];
const MIXED: [f64; 2] = [0.1, 0.3];

/// Prints the table for all scenarios whose name has `FARCALL_OVERLOAD_SCENARIO` in it.
#[test]
fn table_of_all_scenarios() {
    let Some(seeds) = variable("FARCALL_OVERLOAD_SEEDS").and_then(|seeds| seeds.parse().ok()) else { return };
    let filter = variable("FARCALL_OVERLOAD_SCENARIO").unwrap_or_default();
    println!(
        "| handlers | times | load | goodput: least, median | p99 by unloaded: most, median | critical lost | recovery: most, median | modest served: least, median | limit by capacity: most, median | seeds out of bounds |"
    );
    for (capacity, work) in [(4, 100), (5, 20), (10, 2), (10, 20), (20, 20), (64, 20)] {
        for spread in SPREADS {
            for (load, callers, mix) in LOADS {
                let name = format!("{capacity} at once, {work} ms | {spread:?} | {load}");
                if name.contains(&filter) {
                    let scenario = Scenario { capacity, work: work * MS, spread, callers, mix };
                    print_row(&name, &run_all(scenario, seeds), callers.len() > 1);
                }
            }
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Checks the promises of `docs/OVERLOAD.md`, for two seeds, or as many as are asked for.
#[test]
fn overload_is_within_its_bounds() {
    let seeds = variable("FARCALL_OVERLOAD_SEEDS").and_then(|seeds| seeds.parse().ok()).unwrap_or(2);
    for (capacity, work) in [(4, 100), (5, 20), (10, 20)] {
        for (load, callers, mix) in [LOADS[3], LOADS[6], LOADS[7]] {
            let scenario = Scenario { capacity, work: work * MS, spread: Spread::Fifth, callers, mix };
            let all = run_all(scenario, seeds);
            let bad = count_bad(&all, callers.len() > 1);
            let [.., recovery, modest] = bad;
            let most = [bad[0], bad[1], bad[2], modest].into_iter().max().unwrap_or(0);
            assert!(most as u64 <= seeds / 1000, "{capacity}, {load}: {bad:?}, {all:?}");
            // With four places and 100 ms, three losses among 40 calls are a second and a half that count as bad.
            assert!(recovery as u64 <= seeds / 40, "{capacity}, {load}: {bad:?}, {all:?}");
        }
    }
}
