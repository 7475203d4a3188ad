//! The job as a person runs it: what it prints, how it ends, and that it leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use self::support::{Demo, Ended, SOON, runs, signal, within};

/// More calls than anybody waits for.
const ENDLESS: [&str; 2] = ["--repeat", "1000000000"];

fn texts() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.txt"), "One two two").unwrap();
    fs::create_dir(dir.path().join("more")).unwrap();
    fs::write(dir.path().join("more/b.md"), "Two, three: \u{fc}ber.").unwrap();
    dir
}

fn count(input: &Path, options: &[&str]) -> Ended {
    Demo::run([&["--input", input.to_str().unwrap()], options].concat())
}

/// Starts a job that does not end, and gives the pids of its servers.
fn endless(input: &Path, options: &[&str]) -> (Demo, Vec<i32>) {
    let input = ["--input", input.to_str().unwrap()];
    let mut job = Demo::start([&input[..], &ENDLESS, options].concat());
    let pids = (1..=3).map(|number| {
        let line = job.line();
        assert!(line.starts_with(&format!("server-{number} at ")), "{line:?}");
        let (_, pid) = line.split_once("(pid ").unwrap();
        pid.trim_end_matches(')').parse().unwrap()
    });
    let pids = pids.collect();
    (job, pids)
}

#[track_caller]
fn expect_gone(pids: &[i32]) {
    let gone = within(SOON, || !pids.iter().any(|&pid| runs(pid)));
    assert!(gone, "left behind: {:?}", pids.iter().filter(|&&pid| runs(pid)).collect::<Vec<_>>());
}

#[test]
fn the_counts_are_printed_and_right() {
    let dir = texts();
    for options in [&[][..], &["--codec", "json"], &["--unix", "--servers", "1"], &["--concurrency", "1"]] {
        let ended = count(dir.path(), options).expect_code(0);
        ended.expect_line(&["1", "two", "3"]);
        for word in ["one", "three", "\u{fc}ber"] {
            ended.expect_line(&[word, "1"]);
        }
        ended.expect_line(&["files", "2"]);
        ended.expect_line(&["bytes", "29"]);
        ended.expect_line(&["calls", "2"]);
        ended.expect_line(&["ok:", "6", "words,", "4"]);
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn repeated_calls_are_spread_evenly() {
    let dir = texts();
    let ended = count(dir.path(), &["--repeat", "300", "--servers", "4"]).expect_code(0);
    ended.expect_line(&["1", "two", "900"]);
    ended.expect_line(&["calls", "600"]);
    assert_eq!(ended.stdout.lines().filter(|line| line.contains(" 150           150 ")).count(), 4);
}

#[test]
fn what_cannot_be_sent_is_named_and_skipped() {
    let dir = texts();
    fs::write(dir.path().join("zero.bin"), b"two\0two").unwrap();
    fs::write(dir.path().join("latin.txt"), b"two \xfc").unwrap();
    fs::write(dir.path().join("large.txt"), "two ".repeat(1_100_000)).unwrap();
    // Reading it fails, even for root, who may read everything.
    let unreadable = "/proc/self/mem";
    let ended = count(dir.path(), &["--input", unreadable]).expect_code(0);
    ended.expect_line(&["1", "two", "3"]);
    ended.expect_line(&["files", "2;", "skipped:", "1", "unreadable,", "2", "binary,", "1", "too", "large"]);
    ended.expect_line(&["calls", "2"]);
    for (name, reason) in [
        ("zero.bin", ": binary"),
        ("latin.txt", ": binary"),
        ("large.txt", ": too large: the servers accept frames of at most 4194304 bytes"),
        ("/proc/self/mem", ": unreadable: Input/output error (os error 5)"),
    ] {
        let told = ended
            .stderr
            .lines()
            .any(|line| line.starts_with("skipped ") && line.ends_with(&format!("{name}{reason}")));
        assert!(told, "{name} in\n{}", ended.stderr);
    }
    assert_eq!(ended.stderr.lines().count(), 4, "{}", ended.stderr);
}

#[test]
fn nothing_to_count_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let ended = count(dir.path(), &[]).expect_code(1);
    assert_eq!(ended.stderr, "error: there are no files in the input\n");
    fs::write(dir.path().join("x.bin"), [0]).unwrap();
    let ended = count(dir.path(), &[]).expect_code(1);
    assert!(ended.stderr.ends_with("error: there is nothing to count: all files were skipped\n"));
    let ended = count(&dir.path().join("nowhere"), &[]).expect_code(1);
    assert!(ended.stderr.starts_with("error: --input "), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for wrong in [&["--servers", "0"][..], &["--codec", "xml"], &["--nonsense"], &["nonsense"]] {
        Demo::run(wrong).expect_code(2);
    }
}

#[test]
fn what_is_no_terminal_gets_no_escapes() {
    let dir = texts();
    let ended = count(dir.path(), &[]).expect_code(0);
    assert!(!ended.stdout.contains('\x1b') && !ended.stderr.contains('\x1b'));
}

#[test]
fn a_server_that_is_killed_fails_the_job_and_is_named() {
    let dir = texts();
    let (job, pids) = endless(dir.path(), &[]);
    signal(pids[1], Signal::KILL);
    let ended = job.ended().expect_code(1);
    let named = format!("error: server-2 (pid {}) ended: signal: 9 (SIGKILL): ", pids[1]);
    assert!(ended.stderr.starts_with(&named), "{}", ended.stderr);
    assert!(ended.stderr.contains("unavailable"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    expect_gone(&pids);
}

#[test]
fn a_signal_stops_the_job_and_its_servers() {
    let dir = texts();
    for (number, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (job, pids) = endless(dir.path(), &["--unix"]);
        job.signal(number);
        job.ended().expect_code(code);
        expect_gone(&pids);
    }
}

#[test]
fn servers_end_when_the_job_is_killed() {
    let dir = texts();
    let (job, pids) = endless(dir.path(), &[]);
    job.signal(Signal::KILL);
    expect_gone(&pids);
}

#[test]
fn a_server_that_is_stopped_for_good_is_killed_in_the_end() {
    let dir = texts();
    let (job, pids) = endless(dir.path(), &[]);
    signal(pids[2], Signal::STOP);
    job.signal(Signal::TERM);
    let ended = job.ended().expect_code(1);
    assert!(ended.stderr.contains("server-3"), "{}", ended.stderr);
    expect_gone(&pids);
}

#[test]
fn nobody_reading_the_report_is_a_failure_like_others() {
    let dir = texts();
    let mut job = Demo::start(["--input", dir.path().to_str().unwrap()]);
    job.close_stdout();
    let ended = job.ended().expect_code(1);
    assert_eq!(
        ended.stderr,
        "error: writing to stdout: Broken pipe (os error 32)
"
    );
}
