//! The project's soak: the same seed gives the same trace, and the seeds that once found something still pass.

use std::path::Path;
use std::process::Command;

use farcall_sim::soak;

/// The faults of `crates/sim/faults`, each with the seed of today's soak that finds it when it is put back. What a seed does
/// changes with the soak, so `faults/find` tells the seeds again; the scenarios of `found.rs` stay.
const FAULTS: [(&str, u64); 5] = [
    ("hedged-request-hides-the-other", 495),
    ("hedged-stream-without-a-deadline", 3),
    ("last-attempt-hides-the-others", 3),
    ("resumed-stream-past-its-deadline", 571),
    ("resumed-stream-says-that-nothing-was-done", 129),
];

#[test]
fn same_seed_gives_the_same_trace_byte_for_byte() {
    for seed in [1, 8, 21] {
        let first = soak::run(seed);
        // On another thread, where the keys of hash tables and the state of tokio's random generator differ.
        let second = std::thread::spawn(move || soak::run(seed)).join().unwrap();
        let differs = first.trace.lines().zip(second.trace.lines()).position(|(one, other)| one != other);
        assert!(first.trace == second.trace, "seed {seed} differs from line {differs:?} on");
        assert_ne!(first.trace, soak::run(seed + 1).trace);
    }
}

#[test]
fn seeds_that_found_faults_find_none_now() {
    // Of a call that failed since it waited for a place longer than three connections lasted.
    let waiting = ("not-sent-counts-as-attempt", 11547);
    // Of one that failed since three connections reached their largest age, each just before it would have begun.
    let refused = ("goaway-counts-as-attempt", 46588);
    // Of one whose request took a slow link longer than a server may be silent, so that each connection was given up.
    let slow = ("silence-while-a-request-is-sent", 99228);
    for (fault, seed) in FAULTS.into_iter().chain([waiting, refused, slow]) {
        assert_eq!(soak::run(seed).findings, Vec::<String>::new(), "seed {seed}, of {fault}");
    }
}

#[test]
fn faults_can_be_put_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if !root.join(".git").exists() {
        return eprintln!("skipped: not in a repository of git");
    }
    for (fault, _) in FAULTS {
        let patch = format!("crates/sim/faults/{fault}.patch");
        let check =
            Command::new("git").args(["apply", "--check", &patch]).current_dir(&root).output().unwrap();
        assert!(check.status.success(), "{fault}: {}", String::from_utf8_lossy(&check.stderr));
    }
    let patches = std::fs::read_dir(root.join("crates/sim/faults")).unwrap();
    let is_patch = |name: &std::ffi::OsStr| Path::new(name).extension().is_some_and(|end| end == "patch");
    assert_eq!(patches.filter(|file| is_patch(&file.as_ref().unwrap().file_name())).count(), FAULTS.len());
}

#[test]
fn calls_under_cuts_are_carried_out_once_and_answered() {
    let calls = std::env::var("FARCALL_SIM_ONCE_CALLS").map_or(2000, |calls| calls.parse().unwrap());
    let outcome = soak::run_once(0, calls);
    assert_eq!(outcome.findings, Vec::<String>::new());
    assert_eq!((outcome.counts["paid"], outcome.counts["succeeded"]), (calls, calls));
}

#[test]
fn all_that_is_promised_holds_for_many_seeds() {
    let seeds = std::env::var("FARCALL_SIM_SEEDS").unwrap_or_else(|_| "500".to_owned());
    let soak = Command::new(env!("CARGO_BIN_EXE_farcall-sim")).args(["--seeds", &seeds]).output().unwrap();
    let [out, errors] = [&soak.stdout, &soak.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(soak.status.success(), "{out}\n{errors}");
    println!("{out}");
}
