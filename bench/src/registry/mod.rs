//! The registry at scale: many instances, heartbeats, watchers, and how soon they see a change.
//!
//! Every measurement has a fresh registry in a process of its own; this process is the load.

mod changes;
mod figures;
mod heartbeats;
mod http;
mod lists;
mod population;
mod serve;
mod watchers;

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};

use self::changes::Change;
use self::figures::{Figures, Spread};
use self::http::Connection;
use self::population::Population;
use self::serve::RegistryProcess;
use self::watchers::{Seen, Watchers};
use crate::process::{cpu_time, peak_kb, resident_kb};

pub(crate) use self::serve::serve;

#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectionOptions {
    /// The measured time of each run, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many instances are registered.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    instances: u32,
    /// How many services they belong to.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    services: u32,
    /// How many watch. Each is an open connection, in both processes.
    #[arg(long, default_value_t = 1_000)]
    watchers: u32,
    /// Heartbeats a second, sent when they are due, whether or not earlier ones were answered.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    heartbeats: u32,
    /// Changes a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
    /// Connections that heartbeats and lists are sent over.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// What is watched, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Watch::Each, Watch::One, Watch::All])]
    watch: Vec<Watch>,
    /// Leaves out the lists, which are measured with both cores busy.
    #[arg(long)]
    no_lists: bool,
    /// How often all is measured; the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Prints one JSON object a line for each measurement instead of a table.
    #[arg(long)]
    json: bool,
}

/// What the watchers watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Watch {
    /// Each another service: as clients do.
    Each,
    /// All the same service, in which all the changes are.
    One,
    /// All of them everything.
    All,
}

impl Watch {
    fn name(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::One => "one",
            Self::All => "all",
        }
    }
}

/// Before the measured time, so that connections are open and caches are warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// After it, for what is still under way to watchers.
const GRACE: Duration = Duration::from_secs(2);

/// When load is made, and when it is measured.
#[derive(Clone, Copy, Debug)]
struct Window {
    begin: Instant,
    measured: Instant,
    end: Instant,
}

impl Window {
    fn of(time: Duration) -> Self {
        let begin = Instant::now() + Duration::from_millis(50);
        Self { begin, measured: begin + WARM_UP, end: begin + WARM_UP + time }
    }

    fn is_measured(&self, due: Instant) -> bool {
        (self.measured..self.end).contains(&due)
    }

    /// The moments, so many a second, of one of `lanes` that share them.
    fn dues(&self, per_s: u32, lane: u32, lanes: u32) -> impl Iterator<Item = (u64, Instant)> + use<> {
        let Self { begin, end, .. } = *self;
        (u64::from(lane)..)
            .step_by(lanes as usize)
            .map(move |n| (n, begin + Duration::from_secs_f64(n as f64 / f64::from(per_s))))
            .take_while(move |(_, due)| *due < end)
    }
}

pub(crate) fn run(options: &ConnectionOptions) -> anyhow::Result<()> {
    let mut all = Vec::new();
    let mut lists = Vec::new();
    for round in 1..=options.rounds {
        for watch in &options.watch {
            eprintln!(
                "round {round} of {}: {} watchers of {}",
                options.rounds,
                options.watchers,
                watch.name()
            );
            let figures = measure(options, *watch).with_context(|| format!("watching {}", watch.name()))?;
            print_line(options, &figures)?;
            all.push(figures);
        }
        if options.no_lists {
            continue;
        }
        eprintln!("round {round} of {}: lists", options.rounds);
        for figures in lists::measure(options).context("lists")? {
            print_line(options, &figures)?;
            lists.push(figures);
        }
    }
    if !options.json {
        figures::print(options, &all, &lists);
    }
    Ok(())
}

fn print_line(options: &ConnectionOptions, figures: &impl serde::Serialize) -> anyhow::Result<()> {
    if options.json {
        println!("{}", serde_json::to_string(figures)?);
    }
    Ok(())
}

/// One run: a registry, all its instances, watchers, heartbeats and changes.
fn measure(options: &ConnectionOptions, watch: Watch) -> anyhow::Result<Figures> {
    let registry = RegistryProcess::start()?;
    let population = Population::new(registry.address(), options.instances, options.services);
    let registering = register(registry.address(), &population)?;
    let registered_kb = resident_kb(registry.pid())?;
    let began = Instant::now();
    let watchers = Watchers::start(registry.address(), &population, watch, options.watchers)?;
    let watching = began.elapsed();

    let time = Duration::from_secs(options.seconds);
    let window = Window::of(time);
    let heartbeats =
        heartbeats::start(registry.address(), &population, options.heartbeats, options.connections, window)?;
    let changes = changes::start(registry.address(), &population, watch, options.changes, window)?;
    std::thread::sleep(window.measured.saturating_duration_since(Instant::now()));
    let cpu = (cpu_time(registry.pid())?, cpu_time(std::process::id())?);
    std::thread::sleep(window.end.saturating_duration_since(Instant::now()));
    let cpu = (cpu_time(registry.pid())? - cpu.0, cpu_time(std::process::id())? - cpu.1);

    let heartbeats = heartbeats.join()?;
    let changes = changes.join()?;
    std::thread::sleep(GRACE);
    let resident_kb = resident_kb(registry.pid())?;
    let seen = watchers.stop()?;
    let (each, last, missed) = delays(&changes, &seen, window);
    Ok(Figures {
        watch: watch.name().to_owned(),
        registrations_per_s: f64::from(options.instances) / registering.as_secs_f64(),
        watching_s: watching.as_secs_f64(),
        heartbeats_per_s: heartbeats.len() as f64 / time.as_secs_f64(),
        heartbeat: heartbeats,
        change_at_each: each,
        change_at_all: last,
        missed,
        resyncs: seen.iter().map(|seen| seen.resyncs).sum(),
        registry_cores: cpu.0.as_secs_f64() / time.as_secs_f64(),
        load_cores: cpu.1.as_secs_f64() / time.as_secs_f64(),
        registered_mb: registered_kb as f64 / 1000.0,
        resident_mb: resident_kb as f64 / 1000.0,
        peak_mb: peak_kb(registry.pid())? as f64 / 1000.0,
    })
}

/// Registers everybody, one after the other. What it took.
fn register(address: &str, population: &Population) -> anyhow::Result<Duration> {
    let mut connection = Connection::open(address)?;
    let began = Instant::now();
    for n in 0..population.instances() {
        connection
            .call(&population.registration(n, "1.4.0"))
            .with_context(|| format!("registering number {n}"))?;
    }
    Ok(began.elapsed())
}

/// How long each change took to each of its watchers, how long to the last of them, and how many
/// watchers never saw one.
fn delays(changes: &[Change], seen: &[Seen], window: Window) -> (Spread, Spread, usize) {
    let (mut each, mut last, mut missed) = (Spread::default(), Spread::default(), 0);
    for change in changes.iter().filter(|change| window.is_measured(change.due)) {
        let mut latest = None;
        for seen in seen.iter().filter(|seen| seen.service.is_none_or(|service| service == change.service)) {
            match seen.moment_of(change.rev) {
                Some(moment) => {
                    let delay = moment.saturating_duration_since(change.sent);
                    each.record(delay);
                    latest = latest.max(Some(delay));
                }
                None => missed += 1,
            }
        }
        if let Some(latest) = latest {
            last.record(latest);
        }
    }
    (each, last, missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_the_moments_among_them() {
        let window = Window::of(Duration::from_secs(1));
        let mut dues: Vec<_> = (0..3).flat_map(|lane| window.dues(100, lane, 3)).collect();
        dues.sort();
        assert_eq!(dues.len(), 200, "a second of warm-up and a measured one");
        assert!(dues.iter().map(|(n, _)| *n).eq(0..200));
        assert_eq!(dues[50].1 - window.begin, Duration::from_millis(500));
        assert_eq!(dues.iter().filter(|(_, due)| window.is_measured(*due)).count(), 100);
    }

    #[test]
    fn a_change_counts_at_its_own_watchers_and_at_the_last_of_them() {
        let window = Window::of(Duration::from_secs(10));
        let sent = window.measured + Duration::from_secs(1);
        let after = |ms| sent + Duration::from_millis(ms);
        let change = |rev, service| Change { service, rev, due: sent, sent };
        let seen = [
            Seen::of(Some(0), [(4, window.begin), (6, after(10))]),
            Seen::of(None, [(4, window.begin), (5, after(40)), (6, after(50))]),
            Seen::of(Some(1), [(4, window.begin)]),
        ];
        // Who sees 6 and never saw 5, knows what 5 was about all the same.
        let (each, last, missed) = delays(&[change(5, 0), change(6, 1)], &seen, window);
        assert_eq!((each.len(), last.len(), missed), (3, 2, 1));
        assert_eq!((each.ms(1.0).round(), last.ms(1.0).round(), last.ms(100.0).round()), (10.0, 40.0, 50.0));
    }
}
