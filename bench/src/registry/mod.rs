//! The registry at scale: many instances, heartbeats, watchers, and how soon they see a change.
//!
//! Every measurement has a new registry in a separate process; this process is the load.

mod changes;
mod figures;
mod heartbeats;
mod http;
mod lists;
mod options;
mod population;
mod serve;
mod watchers;
mod window;

use std::time::{Duration, Instant};

use anyhow::Context;

use self::changes::Change;
use self::figures::{Figures, Spread};
use self::options::Watch;
use self::population::{Population, register};
use self::serve::RegistryProcess;
use self::watchers::{Seen, Watchers};
use self::window::Window;
use crate::process::{cpu_time, peak_kb, resident_kb};

pub(crate) use self::options::LoadOptions;
pub(crate) use self::serve::serve;

/// The time after the measurement, for events that are still on their way to watchers.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) fn run(options: &LoadOptions) -> anyhow::Result<()> {
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

fn print_line(options: &LoadOptions, figures: &impl serde::Serialize) -> anyhow::Result<()> {
    if options.json {
        println!("{}", serde_json::to_string(figures)?);
    }
    Ok(())
}

/// One run: a registry, all its instances, watchers, heartbeats and changes.
fn measure(options: &LoadOptions, watch: Watch) -> anyhow::Result<Figures> {
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

/// Returns the delays of each change to each of its watchers, the delays to the last one, and how many
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
