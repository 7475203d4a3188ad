//! The job as run from a terminal: its output, its end, and the processes it leaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use farcall_test_browser::Browser;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use self::support::{Demo, Ended, SOON, runs, signal, within};

/// A script that hides the scroll bars of a page, which are no part of its picture.
const WITHOUT_BARS: &str = "document.documentElement.style.scrollbarWidth = 'none'";

/// More calls than any test waits for.
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

/// Starts a job that does not end, and gives the pids of its registry and its three servers.
fn endless(input: &Path, options: &[&str]) -> (Demo, Vec<i32>) {
    let input = ["--input", input.to_str().unwrap()];
    let mut job = Demo::start([&input[..], &ENDLESS, options].concat());
    let pids = cluster(&mut job);
    (job, pids)
}

/// The pids of a job's registry and its three servers, as it tells them.
fn cluster(job: &mut Demo) -> Vec<i32> {
    cluster_with_lines(job).0
}

/// The same, with the lines that tell them.
fn cluster_with_lines(job: &mut Demo) -> (Vec<i32>, Vec<String>) {
    let mut lines = Vec::new();
    let pids = ["registry", "server-1", "server-2", "server-3"].map(|name| {
        let line = job.line();
        let name = if name == "registry" && line.starts_with("etcd") { "etcd" } else { name };
        assert!(line.starts_with(&format!("{name} at ")), "{line:?}");
        let (_, pid) = line.split_once("(pid ").unwrap();
        let (pid, seen) = pid.split_once(')').unwrap();
        let is_seen = seen.starts_with(", seen at http://127.0.0.1:") && seen.ends_with("/debug/farcall");
        assert_eq!(is_seen, name.starts_with("server-"), "{line:?}");
        let pid = pid.parse().unwrap();
        lines.push(line);
        pid
    });
    let found = job.line();
    assert!(found.starts_with("Text found at 3 servers, its calls seen at http://127.0.0.1:"), "{found:?}");
    (pids.to_vec(), lines)
}

#[track_caller]
fn assert_gone(pids: &[i32]) {
    let gone = within(SOON, || !pids.iter().any(|&pid| runs(pid)));
    assert!(gone, "left behind: {:?}", pids.iter().filter(|&&pid| runs(pid)).collect::<Vec<_>>());
}

#[test]
fn job_prints_correct_counts() {
    let dir = texts();
    for options in [&[][..], &["--codec", "json"], &["--unix", "--servers", "1"], &["--concurrency", "1"]] {
        let ended = count(dir.path(), &[options, &["--repeat", "1"]].concat()).assert_code(0);
        ended.assert_line(&["1", "two", "3"]);
        for word in ["one", "three", "\u{fc}ber"] {
            ended.assert_line(&[word, "1"]);
        }
        ended.assert_line(&["files", "2"]);
        ended.assert_line(&["bytes", "29"]);
        ended.assert_line(&["calls", "2,"]);
        ended.assert_line(&["ok:", "6", "words,", "4"]);
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn calls_taken_by_servers_equal_calls_made() {
    let dir = texts();
    let ended = count(dir.path(), &["--repeat", "300", "--servers", "4", "--calm"]).assert_code(0);
    ended.assert_line(&["1", "two", "900"]);
    ended.assert_line(&["calls", "600,", "none", "of", "which", "failed"]);
    let took = |line: &str| -> Option<u64> {
        let words: Vec<_> = line.split_whitespace().collect();
        let address = words.iter().position(|word| word.starts_with("tcp@"))?;
        words.iter().any(|word| word.starts_with("server-")).then(|| words[address + 1].parse().ok())?
    };
    let took: Vec<_> = ended.stdout.lines().filter(|line| line.starts_with('│')).filter_map(took).collect();
    assert_eq!((took.len(), took.iter().sum::<u64>()), (4, 600), "{}", ended.stdout);
}

/// Asserts that a job ends well though servers are killed, started and drained during it.
fn assert_job_survives_its_disruptions(options: &[&str]) {
    let dir = texts();
    let ended = count(dir.path(), &[&["--repeat", "400"], options].concat()).assert_code(0);
    ended.assert_line(&["1", "two", "1,200"]);
    ended.assert_line(&["calls", "800,", "none", "of", "which", "failed"]);
    let told = |what: &str| ended.stdout.lines().position(|line| line.contains(what));
    let story = [
        "server-1 at ",
        "killed with SIGKILL",
        "server-4 started at ",
        "server-4 found by the client",
        "server-3 asked to stop with SIGTERM",
        "server-3 ended by itself, after ",
        "ok: ",
    ];
    let lines = story.map(|what| told(what).unwrap_or_else(|| panic!("no {what:?} in\n{}", ended.stdout)));
    assert!(lines.is_sorted(), "{}", ended.stdout);
    assert!(ended.has_line(&["unknown", "killed"]) && ended.has_line(&["drained"]), "{}", ended.stdout);
    assert_eq!(ended.stderr, "");
}

#[test]
fn job_survives_a_kill_a_start_and_a_drain() {
    assert_job_survives_its_disruptions(&[]);
    assert_job_survives_its_disruptions(&["--unix", "--codec", "json"]);
}

#[test]
fn job_survives_disruptions_with_etcd() {
    assert_job_survives_its_disruptions(&["--registry", "etcd"]);
}

#[test]
fn job_survives_disruptions_with_zookeeper() {
    assert_job_survives_its_disruptions(&["--registry", "zookeeper"]);
}

#[test]
fn job_survives_disruptions_with_srv_records() {
    assert_job_survives_its_disruptions(&["--registry", "srv"]);
}

#[test]
fn kept_cluster_can_be_inspected_until_ctrl_c() {
    let dir = texts();
    for (registry, hint) in [("http", "  list    curl '"), ("etcd", "  list    etcdctl --endpoints ")] {
        let input = ["--input", dir.path().to_str().unwrap(), "--repeat", "1", "--keep"];
        let mut job = Demo::start([&input[..], &["--registry", registry]].concat());
        let pids = cluster(&mut job);
        let mut lines = Vec::new();
        while lines.len() < 100 && !lines.last().is_some_and(|line: &String| line.ends_with("(this job)")) {
            lines.push(job.line());
        }
        assert!(lines.iter().any(|line| line.starts_with("ok: ")), "{lines:#?}");
        let line = lines.iter().find(|line| line.starts_with(hint)).unwrap_or_else(|| panic!("{lines:#?}"));
        if registry == "http" {
            let url = line.split('\'').nth(1).unwrap();
            let list = support::get(url);
            assert!(list.starts_with("HTTP/1.1 200"), "{list}");
            assert!(list.to_ascii_lowercase().contains("x-farcall-server-count: 3"), "{list}");
        }
        let begin_with = |label: &str| -> Vec<_> {
            lines.iter().filter_map(|line| line.trim_start().strip_prefix(label).map(str::trim)).collect()
        };
        for command in begin_with("try ") {
            let output = Command::new("sh").args(["-c", command]).env("no_proxy", "*").output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), "42", "{output:?}");
        }
        let pages = begin_with("open ").into_iter().filter(|line| line.contains("/debug/farcall"));
        let pages: Vec<_> = pages.map(|line| line.split(' ').next().unwrap()).collect();
        for page in &pages {
            assert!(support::get(page).starts_with("HTTP/1.1 200"), "{page}");
        }
        // One page for each server, and the job's own.
        assert_eq!(
            (begin_with("try ").len(), begin_with("call ").len(), pages.len()),
            (3, 3, 4),
            "{lines:#?}"
        );
        let figures = support::get(&format!("{}/overview.json", pages[3]));
        assert!(figures.contains("\"name\":\"Text\""), "{figures}");
        assert!(pids.iter().all(|&pid| runs(pid)));
        job.signal(Signal::INT);
        job.ended().assert_code(0);
        assert_gone(&pids);
    }
}

/// `FARCALL_PICTURES=docs/pictures` writes the pictures of README and of the registry's page.
#[tokio::test]
async fn pages_show_the_cluster_at_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let input = ["--input", root.join("docs").to_str().unwrap()].map(str::to_owned);
    let mut job = Demo::start([&input[..], &ENDLESS.map(str::to_owned)].concat());
    let (pids, lines) = cluster_with_lines(&mut job);
    let url =
        |line: &str| line[line.find("http://").unwrap()..].split([' ', ')', ',']).next().unwrap().to_owned();
    let pictures = std::env::var_os("FARCALL_PICTURES").map(|folder| root.join(folder));
    let browser = Browser::start().await;
    browser.scheme("light").await;

    browser.screen(1100, 620, false).await;
    browser.open(&url(&lines[1])).await;
    browser.shows("Text.count").await;
    browser
        .sees(
            "[...document.querySelectorAll('#tiles *')].some((e) => /^[1-9][\\d.,]*k?$/.test(e.textContent))",
        )
        .await;
    if let Some(folder) = &pictures {
        // The method that is called comes first.
        browser.click("#methods th.h-rate button").await;
        // So long do the charts need to be full: they have a point a second.
        tokio::time::sleep(Duration::from_secs(30)).await;
        browser.script(WITHOUT_BARS).await;
        browser.screenshot(folder.join("debug-page.png")).await;
    }
    browser.screen(1100, 520, false).await;
    browser.open(&url(&lines[0])).await;
    browser.shows("Text").await;
    browser.sees("/ ago$/.test(document.querySelector('td.seen').innerText.trim())").await;
    if let Some(folder) = &pictures {
        browser.script(WITHOUT_BARS).await;
        browser.screenshot(folder.join("registry-page.png")).await;
    }
    job.signal(Signal::INT);
    drop(job);
    assert_gone(&pids);
}

#[test]
fn unsendable_files_are_reported_and_skipped() {
    let dir = texts();
    fs::write(dir.path().join("zero.bin"), b"two\0two").unwrap();
    fs::write(dir.path().join("latin.txt"), b"two \xfc").unwrap();
    // Larger than a frame, so that it would be sent in pieces.
    fs::write(dir.path().join("word.txt"), "x".repeat(5_000_000)).unwrap();
    // Reading it fails, even for root.
    let unreadable = "/proc/self/mem";
    let ended = count(dir.path(), &["--input", unreadable, "--repeat", "1"]).assert_code(0);
    ended.assert_line(&["1", "two", "3"]);
    ended.assert_line(&["files", "2;", "skipped:", "1", "unreadable,", "2", "binary,", "1", "with"]);
    ended.assert_line(&["calls", "2,"]);
    for (name, reason) in [
        ("zero.bin", ": binary"),
        ("latin.txt", ": binary"),
        ("word.txt", ": a word of more than 1048576 bytes"),
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
fn file_larger_than_a_frame_is_sent_in_pieces() {
    let dir = texts();
    fs::write(dir.path().join("large.txt"), "two \u{fc}ber ".repeat(500_000)).unwrap();
    for options in [&["--codec", "json"][..], &["--unix"]] {
        let ended = count(dir.path(), &[options, &["--repeat", "1"]].concat()).assert_code(0);
        ended.assert_line(&["1", "two", "500,003"]);
        ended.assert_line(&["2", "\u{fc}ber", "500,001"]);
        ended.assert_line(&["files", "3"]);
        ended.assert_line(&["calls", "3,"]);
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn pieces_survive_a_kill_a_start_and_a_drain() {
    let dir = texts();
    fs::write(dir.path().join("large.txt"), "two \u{fc}ber ".repeat(500_000)).unwrap();
    let ended = count(dir.path(), &["--repeat", "34", "--concurrency", "4"]).assert_code(0);
    ended.assert_line(&["1", "two", "17,000,102"]);
    ended.assert_line(&["calls", "102,", "none", "of", "which", "failed"]);
    assert!(ended.stdout.contains("killed with SIGKILL"), "{}", ended.stdout);
}

#[test]
fn empty_input_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let ended = count(dir.path(), &[]).assert_code(1);
    assert_eq!(ended.stderr, "error: there are no files in the input\n");
    fs::write(dir.path().join("x.bin"), [0]).unwrap();
    let ended = count(dir.path(), &[]).assert_code(1);
    assert!(ended.stderr.ends_with("error: there is nothing to count: all files were skipped\n"));
    let ended = count(&dir.path().join("nowhere"), &[]).assert_code(1);
    assert!(ended.stderr.starts_with("error: --input "), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn invalid_command_line_is_a_usage_error() {
    for wrong in [&["--servers", "0"][..], &["--codec", "xml"], &["--nonsense"], &["nonsense"]] {
        Demo::run(wrong).assert_code(2);
    }
}

#[test]
fn output_to_a_pipe_has_no_escape_sequences() {
    let dir = texts();
    let ended = count(dir.path(), &[]).assert_code(0);
    assert!(!ended.stdout.contains('\x1b') && !ended.stderr.contains('\x1b'));
}

/// Runs a calm job, one of whose processes is killed during its calls; returns the pids and its end.
fn end_with_killed(index: usize) -> (Vec<i32>, Ended) {
    let dir = texts();
    let input = ["--input", dir.path().to_str().unwrap(), "--calm", "--repeat"];
    // On a busy machine the calls may be over before the kill: more of them, then.
    for (repeat, calls) in [("20000", "40,000,"), ("100000", "200,000,"), ("500000", "1,000,000,")] {
        let mut job = Demo::start([&input[..], &[repeat]].concat());
        let pids = cluster(&mut job);
        let was_running = kill_process(Pid::from_raw(pids[index]).unwrap(), Signal::KILL).is_ok();
        let ended = job.ended().assert_code(0);
        ended.assert_line(&["calls", calls, "none", "of", "which", "failed"]);
        assert_gone(&pids);
        if was_running && !ended.stderr.is_empty() {
            return (pids, ended);
        }
    }
    panic!("no job reports its killed process");
}

#[test]
fn killed_server_is_reported_and_its_calls_fail_over() {
    let (pids, ended) = end_with_killed(2);
    let named = format!("server-2 (pid {}) ended: signal: 9 (SIGKILL)", pids[2]);
    assert!(ended.stderr.contains(&named), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn job_fails_if_all_servers_are_killed() {
    let dir = texts();
    let (job, pids) = endless(dir.path(), &[]);
    for &pid in &pids[1..] {
        signal(pid, Signal::KILL);
    }
    let ended = job.ended().assert_code(1);
    for (number, pid) in (1..).zip(&pids[1..]) {
        let named = format!("server-{number} (pid {pid}) ended: signal: 9 (SIGKILL)");
        assert!(ended.stderr.contains(&named), "{}", ended.stderr);
    }
    assert!(ended.stderr.contains("unavailable"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_gone(&pids);
}

#[test]
fn killed_registry_is_reported_and_fails_no_call() {
    let (_, ended) = end_with_killed(0);
    assert!(ended.stderr.contains("ended: signal: 9 (SIGKILL)"), "{}", ended.stderr);
}

#[test]
fn signal_stops_the_job_and_its_servers() {
    let dir = texts();
    for (number, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (job, pids) = endless(dir.path(), &["--unix"]);
        job.signal(number);
        job.ended().assert_code(code);
        assert_gone(&pids);
    }
}

#[test]
fn killing_the_job_ends_all_its_processes() {
    let dir = texts();
    for registry in ["http", "etcd"] {
        let (job, pids) = endless(dir.path(), &["--registry", registry]);
        job.signal(Signal::KILL);
        assert_gone(&pids);
    }
}

#[test]
fn suspended_server_is_killed_when_the_job_stops() {
    let dir = texts();
    let (job, pids) = endless(dir.path(), &[]);
    signal(pids[3], Signal::STOP);
    job.signal(Signal::TERM);
    let ended = job.ended().assert_code(1);
    assert!(ended.stderr.contains("server-3"), "{}", ended.stderr);
    assert_gone(&pids);
}

#[test]
fn closed_stdout_is_a_failure() {
    let dir = texts();
    // Closed before the job starts: what it printed before the end would be lost without an error.
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let ended = Demo::writing_to(closed.into(), ["--input", dir.path().to_str().unwrap()]).ended();
    let ended = ended.assert_code(1);
    assert_eq!(
        ended.stderr,
        "error: writing to stdout: Broken pipe (os error 32)
"
    );
}
