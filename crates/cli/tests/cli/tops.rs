//! `top`, once and in a terminal.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use farcall::Address;
use farcall::server::LoadReporting;
use serde_json::Value;

use crate::support::feed::{feed, feed_server};
use crate::support::tmux::Tmux;
use crate::support::{arith, command, farcall, serve, serve_observed, server, until};

#[test]
fn top_once_has_the_methods_of_all_instances() {
    let (one, other) = (arith(), arith());
    for _ in 0..3 {
        farcall(&["call", &one, "Arith.multiply", "a:=6", "b:=7"]).assert_out("42");
    }
    let ran = farcall(&["top", &format!("{one},{other}"), "--once", "--json", "--interval", "50ms"]);
    let rows: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    let calls = |endpoint: &str| {
        let endpoint = format!("tcp@{endpoint}");
        let row = rows.iter().find(|row| row["method"] == "Arith.multiply" && row["endpoint"] == *endpoint);
        row.unwrap()["calls"].clone()
    };
    assert_eq!((calls(&one), calls(&other)), (3.into(), 0.into()), "{rows:#?}");
    assert_eq!(farcall(&["top", &one, "--once", "--interval", "50ms"]).code, 0);
}

#[test]
fn top_has_the_load_that_servers_report() {
    let reporting = LoadReporting::default().interval(Duration::from_millis(50)).utilization(|| 0.25);
    let target = serve(server().report_load(reporting), "tcp@127.0.0.1:0").to_string();
    let quiet = arith();
    // An idle server reports nothing.
    let mut calls =
        command(&["bench", &target, "Arith.multiply", "a:=6", "b:=7", "--closed", "1", "--for", "10m"]);
    let mut calls = calls.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
    let top = |targets: &str| {
        let ran = farcall(&["top", targets, "--once", "--json", "--interval", "50ms"]);
        serde_json::from_str::<Vec<Value>>(&ran.out).unwrap()
    };
    let is_reported = |rows: &[Value]| {
        let row = rows.iter().find(|row| row["endpoint"] == *target).unwrap();
        let has = |field: &str| row[field].is_number();
        row["reported_utilization"] == 0.25
            && ["reported_calls_per_s", "reported_in_flight", "reported_age_ms"].into_iter().all(has)
    };
    until("the load is shown", || {
        let rows = top(&format!("{target},{quiet}"));
        let silent = rows.iter().find(|row| row["endpoint"] == *format!("tcp@{quiet}")).unwrap();
        assert!(silent.get("reported_utilization").is_none(), "{silent:#}");
        is_reported(&rows)
    });
    until("that of a single server is shown", || is_reported(&top(&target)));
    calls.kill().unwrap();
    calls.wait().unwrap();
}

#[test]
fn top_counts_the_open_streams_of_all_instances() {
    let [(one, _), (other, handle)] = [(); 2].map(|()| serve_observed(feed_server(), "tcp@127.0.0.1:0"));
    let mut call = command(&["call", &other.to_string(), "Feed.stall", "n:=1"]);
    let mut child = call.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    until("the stream is open", || handle.in_flight() == 1);
    let ran = farcall(&["top", &format!("{one},{other}"), "--once", "--json", "--interval", "50ms"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let rows: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    let streams = |method: &str, endpoint: &Address| {
        let endpoint = endpoint.to_string();
        let row = rows.iter().find(|row| row["method"] == *method && row["endpoint"] == *endpoint);
        row.unwrap()["streams"].clone()
    };
    let found = [streams("Feed.stall", &one), streams("Feed.stall", &other), streams("Feed.count", &other)];
    assert_eq!(found, [0.into(), 1.into(), Value::from(0)], "{rows:#?}");
}

#[test]
fn top_tells_items_a_second_each_way_of_streams_that_are_open() {
    let (target, handle) = serve_observed(feed_server(), "tcp@127.0.0.1:0");
    let target = target.to_string();
    let mut sending = command(&["call", &target, "Feed.ticks"]);
    let mut taking = command(&["call", &target, "Feed.echo", "-"]);
    let mut sending = sending.stdout(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
    let mut taking = taking.stdout(Stdio::null()).stdin(Stdio::piped()).spawn().unwrap();
    let mut items = taking.stdin.take().unwrap();
    let writer = std::thread::spawn(move || while items.write_all(b"\"a\"\n").is_ok() {});
    until("both streams are open", || handle.in_flight() == 2);
    let row =
        |rows: &[Value], method: &str| rows.iter().find(|row| row["method"] == *method).unwrap().clone();
    let rate = |row: &Value, direction: &str| row[format!("items_{direction}_per_s")].clone();
    // Again, if the machine was so busy that no item came in the time, or more than in the time.
    until("items are counted", || {
        let ran = farcall(&["top", &target, "--once", "--json", "--interval", "200ms"]);
        let rows: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
        let (ticks, echo) = (row(&rows, "Feed.ticks"), row(&rows, "Feed.echo"));
        assert_eq!((rate(&ticks, "in"), rate(&row(&rows, "Feed.count"), "out")), (Value::Null, 0.0.into()));
        let positive = |row: &Value, direction: &str| rate(row, direction).as_f64().unwrap() > 0.0;
        // A tick takes at least 2 ms. More are counted in the time of a sample if its first answer is late.
        let is_possible = rate(&ticks, "out").as_f64().unwrap() <= 600.0;
        is_possible && positive(&ticks, "out") && positive(&echo, "in") && positive(&echo, "out")
    });
    for child in [&mut sending, &mut taking] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    writer.join().unwrap();
}

/// A shell that is alike everywhere.
const SHELL: &str = "env PS1='$ ' sh";

#[test]
fn top_fills_the_terminal_and_leaves_it_as_it_was() {
    let tmux = Tmux::start("plain", 120, SHELL);
    let target = arith();
    tmux.run(&["send-keys", "echo before", "Enter"]);
    until("an echo", || tmux.screen().lines().any(|line| line == "before"));
    let command = format!("{} top {target}; echo ended $?", env!("CARGO_BIN_EXE_farcall"));
    tmux.run(&["send-keys", &command, "Enter"]);
    until("the table", || {
        let screen = tmux.screen();
        screen.contains("q ends") && screen.contains("Arith.multiply") && !screen.contains("before")
    });
    farcall(&["call", &target, "Arith.multiply", "a:=6", "b:=7"]).assert_out("42");
    until("the call is counted", || {
        tmux.screen().lines().any(|line| line.contains("Arith.multiply") && line.contains(" 1 "))
    });
    tmux.run(&["send-keys", "q"]);
    until("the shell again", || {
        let screen = tmux.screen();
        screen.contains("ended 0")
            && screen.lines().any(|line| line == "before")
            && !screen.contains("q ends")
    });
}

#[test]
fn top_shows_streams_and_their_items_as_they_pass() {
    let (tmux, target) = (Tmux::start("streams", 160, SHELL), feed());
    let command_line = format!("{} top {target} --interval 200ms", env!("CARGO_BIN_EXE_farcall"));
    tmux.run(&["send-keys", &command_line, "Enter"]);
    until("the columns of streams", || {
        let screen = tmux.screen();
        ["STREAMS", "ITEMS/S IN", "ITEMS/S OUT", " 0 items/s"].iter().all(|part| screen.contains(part))
    });
    let mut call = command(&["call", &target, "Feed.ticks"]);
    let mut child = call.stdout(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
    until("the stream with its rate", || {
        let screen = tmux.screen();
        let row = screen.lines().find(|line| line.starts_with("Feed.ticks")).unwrap_or_default();
        // The method, the endpoint, calls a second, under way, open streams, items a second: it takes none.
        let words: Vec<_> = row.split_whitespace().collect();
        words.get(3..5) == Some(&["1", "1"]) && words[5].parse::<u32>().is_ok_and(|rate| rate > 0)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    until("the stream is gone", || tmux.screen().contains(" 0 open streams, 0 items/s"));
    tmux.run(&["send-keys", "q"]);
    until("the shell again", || !tmux.screen().contains("q ends"));
}
