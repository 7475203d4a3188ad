//! `fuzz-replay [--list] [TARGET] [SECONDS] [SEED]`: runs targets without libFuzzer, or writes their seeds.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, io};

use farcall_fuzz_targets::replay::{abort_on_panic, run, write_inputs};
use farcall_fuzz_targets::{TARGETS, Target, find};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--list"] => {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            Ok(())
        }
        ["--inputs", name, folder] => write_inputs(named(name)?, Path::new(folder)),
        [] => TARGETS.iter().try_for_each(|target| report(target, 1, 1)),
        [name] => report(named(name)?, 60, 1),
        [name, seconds] => report(named(name)?, number(seconds)?, 1),
        [name, seconds, seed] => report(named(name)?, number(seconds)?, number(seed)?),
        _ => Err(io::Error::other("fuzz-replay [--list | --inputs TARGET FOLDER | TARGET [SECONDS [SEED]]]")),
    }
}

fn report(target: &Target, seconds: u64, seed: u64) -> io::Result<()> {
    abort_on_panic();
    let began = Instant::now();
    let executions = run(target, Duration::from_secs(seconds), seed)?;
    println!("{}: {executions} executions in {:.1} s", target.name, began.elapsed().as_secs_f64());
    Ok(())
}

fn named(name: &str) -> io::Result<&'static Target> {
    find(name).ok_or_else(|| io::Error::other(format!("there is no target `{name}`: see --list")))
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|error| io::Error::other(format!("`{text}` is no number: {error}")))
}
