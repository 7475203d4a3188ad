//! Runs the project's soak with many seeds: `cargo run --release -p farcall-sim -- --seeds 100000`.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use farcall_sim::soak;

const USAGE: &str = "\
farcall-sim: runs clusters in virtual time under faults, one for each seed.

  --seeds N    the number of seeds, from --from on (default 500)
  --from N     the first seed (default 0)
  --seed N     one seed, whose trace is printed
  --threads N  threads, each with a seed at a time (default: the number of cores)
  --once N     instead: N calls that are carried out once, under cuts, for each seed (default of --seeds: 1)
  --keep-going runs the remaining seeds after a failure";

struct Settings {
    first: u64,
    seeds: u64,
    threads: usize,
    prints_trace: bool,
    keeps_going: bool,
    /// The number of calls of the scenario of calls that are carried out once; `None` for the soak.
    once: Option<u64>,
}

fn main() -> ExitCode {
    let settings = match parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // Handlers panic on purpose, by the thousand.
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.payload().downcast_ref::<&str>().copied());
        if text != Some(soak::PANIC) {
            report(panic);
        }
    }));
    if run(&settings) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let threads = available_parallelism().map_or(1, usize::from);
    let mut settings =
        Settings { first: 0, seeds: 500, threads, prints_trace: false, keeps_going: false, once: None };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{argument} {value}: no number"))
        };
        match argument.as_str() {
            "--seeds" => settings.seeds = number()?,
            "--from" => settings.first = number()?,
            "--seed" => (settings.first, settings.seeds, settings.prints_trace) = (number()?, 1, true),
            "--threads" => settings.threads = usize::try_from(number()?.max(1)).unwrap_or(threads),
            "--once" => (settings.once, settings.seeds) = (Some(number()?), 1),
            "--keep-going" => settings.keeps_going = true,
            "--help" => return Err(String::new()),
            _ => return Err(format!("`{argument}` is no option")),
        }
    }
    Ok(settings)
}

/// Runs the seeds; returns `true` if all that must hold did.
fn run(settings: &Settings) -> bool {
    let (next, failed, done) = (AtomicU64::new(settings.first), AtomicU64::new(0), AtomicU64::new(0));
    let end = settings.first.saturating_add(settings.seeds);
    let counts = Mutex::new(BTreeMap::<&str, u64>::new());
    let begin = Instant::now();
    scope(|scope| {
        for _ in 0..settings.threads {
            scope.spawn(|| {
                while settings.keeps_going || failed.load(Ordering::Relaxed) == 0 {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let of_seed = run_seed(seed, settings);
                    failed.fetch_add(u64::from(of_seed.is_none()), Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                    for (what, count) in of_seed.unwrap_or_default() {
                        *counts.entry(what).or_default() += count;
                    }
                }
            });
        }
    });
    for (what, count) in counts.into_inner().unwrap_or_else(PoisonError::into_inner) {
        println!("{count:>12} {what}");
    }
    let (failed, done) = (failed.into_inner(), done.into_inner());
    println!("{done} seeds in {:.1} s, {failed} failed", begin.elapsed().as_secs_f64());
    failed == 0
}

/// Runs one seed. Returns what there was; `None` if something did not hold, which is printed.
fn run_seed(seed: u64, settings: &Settings) -> Option<BTreeMap<&'static str, u64>> {
    let run = || settings.once.map_or_else(|| soak::run(seed), |calls| soak::run_once(seed, calls));
    let Ok(outcome) = catch_unwind(AssertUnwindSafe(run)) else {
        eprintln!("seed {seed} panicked; again: cargo run -p farcall-sim -- --seed {seed}");
        return None;
    };
    if settings.prints_trace {
        print!("{}", outcome.trace);
    }
    if outcome.findings.is_empty() {
        return Some(outcome.counts);
    }
    let findings = outcome.findings.join("\n  ");
    eprintln!("seed {seed} failed; again: cargo run -p farcall-sim -- --seed {seed}\n  {findings}");
    None
}
