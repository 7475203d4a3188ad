//! Running targets without libFuzzer: on their seeds, on the inputs that are kept, and on mutations of both.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io, panic, process};

use farcall_test_support::mutator::Mutator;

use crate::target::Target;

/// The longest input that is made, in bytes.
const MAX_INPUT: usize = 8 * 1024;

/// Returns the folder of all corpora.
#[must_use]
pub fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

/// Returns the seeds of a target, and the inputs that are kept for it.
///
/// # Errors
///
/// A file cannot be read.
pub fn inputs(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let mut inputs = (target.seeds)();
    match fs::read_dir(corpora().join(target.name)) {
        Ok(folder) => {
            let mut paths = folder.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            // Mutations do not depend on the order in which the system lists files.
            paths.sort();
            for path in paths {
                inputs.push(fs::read(path)?);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(inputs)
}

/// Writes the [`inputs`] of a target into a folder, for libFuzzer to begin with.
///
/// # Errors
///
/// A file cannot be read or written.
pub fn write_inputs(target: &Target, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, input) in inputs(target)?.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:03}")), input)?;
    }
    Ok(())
}

/// Runs a target on its inputs, and on mutations of them until `time` has passed. Returns the number of executions.
///
/// # Errors
///
/// A file of the corpus cannot be read.
pub fn run(target: &Target, time: Duration, seed: u64) -> io::Result<u64> {
    let inputs = inputs(target)?;
    let began = Instant::now();
    let mut executions = 0;
    for input in &inputs {
        execute(target, input);
        executions += 1;
    }
    let mut mutator = Mutator::new(seed);
    while began.elapsed() < time {
        let number = mutator.number(inputs.len());
        let mut input = mutator.mutate(&inputs[number]);
        if mutator.number(4) == 0 {
            // Halves of two inputs.
            let other = &inputs[mutator.number(inputs.len())];
            input.truncate(mutator.number(input.len() + 1));
            input.extend_from_slice(&other[mutator.number(other.len() + 1)..]);
        }
        input.truncate(MAX_INPUT);
        execute(target, &input);
        executions += 1;
    }
    Ok(executions)
}

/// Has any panic, also one in a task of a runtime, print the input it came with, and end the process.
pub fn abort_on_panic() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        print(panic);
        INPUT.with_borrow(|(name, input)| {
            eprintln!("target {name}, input {:?}", input.escape_ascii().to_string());
        });
        process::abort();
    }));
}

thread_local! {
    /// The input under way.
    static INPUT: std::cell::RefCell<(&'static str, Vec<u8>)> = const { std::cell::RefCell::new(("", Vec::new())) };
}

fn execute(target: &Target, input: &[u8]) {
    INPUT.set((target.name, input.to_vec()));
    (target.run)(input);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TARGETS;

    /// The time for mutations of each target, in milliseconds, unless the environment says more.
    const DEFAULT_MS: u64 = 300;

    #[test]
    fn each_target_holds_for_its_inputs_and_mutations() {
        let time = std::env::var("FARCALL_FUZZ_MS").ok().map_or(DEFAULT_MS, |text| text.parse().unwrap());
        abort_on_panic();
        for target in TARGETS {
            let executions = run(target, Duration::from_millis(time), 1).unwrap();
            println!("{}: {executions} executions", target.name);
        }
    }
}
