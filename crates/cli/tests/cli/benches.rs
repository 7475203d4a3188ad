//! `bench`: figures, conditions, files. How fast anything is, is no matter of tests.

use std::process::Stdio;
use std::time::Duration;

use farcall::Server;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::feed::feed;
use crate::support::{Files, Ran, arith, command, farcall, serve, serve_observed, server, until};

const MULTIPLY: [&str; 3] = ["Arith.multiply", "a:=6", "b:=7"];

fn bench(target: &str, further: &[&str]) -> Ran {
    farcall(&[&["bench", target], &MULTIPLY[..], further].concat())
}

/// Returns `true` if the generator was too late itself to stand by its figures.
fn is_refused(ran: &Ran) -> bool {
    ran.code == 1 && ran.err.contains("these figures do not stand")
}

#[test]
fn closed_loop_makes_as_many_calls_as_asked_and_says_what_it_leaves_out() {
    let ran = bench(&arith(), &["--closed", "8", "--calls", "500"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(
        ran.out.contains("closed loop: latency leaves out") && ran.out.contains("500 calls in"),
        "{ran:#?}"
    );
}

#[test]
fn open_loop_counts_latency_from_when_a_call_was_due() {
    // One call at a time, each of 20 ms, and 100 a second: the last of 50 calls is due after 0.5 s, and done after 1 s.
    let limits = farcall::server::Limits::default().max_in_flight(1);
    let slow = Server::builder().limits(limits).method("Slow.call", async |(): ()| {
        tokio::time::sleep(Duration::from_millis(20)).await;
    });
    let target = serve(slow, "tcp@127.0.0.1:0").to_string();
    let ran = farcall(&["bench", &target, "Slow.call", "--rate", "100", "--calls", "50", "--json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&report["loop"], &report["calls"], &report["failed"]),
        (&"open".into(), &50.into(), &0.into())
    );
    let max = report["latency"].as_array().unwrap().iter().find(|pair| pair[0] == "max").unwrap();
    assert!(max[1].as_f64().unwrap() >= 0.45, "{report:#}");
}

#[test]
fn conditions_decide_the_exit_code() {
    let target = arith();
    let run = ["--rate", "500", "--calls", "200"];
    let held = bench(&target, &[&run[..], &["--assert", "p99<1h,errors=0"]].concat());
    // On a busy machine the generator is late, and says so instead.
    assert!(held.code == 0 || is_refused(&held), "{held:#?}");
    let failed = bench(&target, &[&run[..], &["--assert", "p50<1ns,rate>1"]].concat());
    assert!(failed.code == 1, "{failed:#?}");
    assert!(failed.err.contains("assertion failed: p50<1ns (it was") || is_refused(&failed), "{failed:#?}");
    bench(&target, &["--assert", "p98<1ms"]).assert_error(2, &["there is no figure `p98`"]);
}

#[test]
fn errors_are_counted_by_code_and_execution() {
    let ran = farcall(&["bench", &arith(), "Arith.divide", "a:=1", "b:=0"]);
    ran.assert_error(20, &["1 cannot be divided by 0"]);
}

#[test]
fn reports_are_compared_and_drawn() {
    let (target, files) = (arith(), Files::new());
    let before = bench(&target, &["--closed", "2", "--calls", "100", "--json"]);
    std::fs::write(files.path("before.json"), before.out).unwrap();
    let (json, chart) = (files.path("before.json"), files.path("out.svg"));
    let ran = bench(&target, &["--closed", "2", "--calls", "100", "--compare", &json, "--chart", &chart]);
    assert!(ran.code == 0 && ran.out.contains("BEFORE") && ran.out.contains("CHANGE"), "{ran:#?}");
    assert!(std::fs::read_to_string(chart).unwrap().ends_with("</svg>\n"));
}

#[test]
fn highest_rate_is_searched() {
    let ran = bench(&arith(), &["--rate", "200", "--for", "100ms", "--find", "p50<1ns"]);
    ran.assert_error(1, &["the conditions hold at no rate"]);
}

#[test]
fn highest_rate_at_which_conditions_hold_is_found() {
    let target = arith();
    let find = ["--rate", "200", "--for", "100ms", "--find", "p50<10s,rate<600", "--json"];
    let ran = bench(&target, &find);
    if ran.err.contains("the conditions hold at no rate") {
        // On a machine so busy that even the first step was late.
        return;
    }
    assert!(ran.code == 0 || is_refused(&ran), "{ran:#?}");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let asked = report["asked"].as_f64().unwrap();
    // A step at which the generator of a busy machine was late counts as too high.
    let was_late = ran.err.contains("the generator keeps up");
    assert!(asked < 800.0 && (asked >= 200.0 || was_late), "{ran:#?}");
    assert!(report["rate"].as_f64().unwrap() < 600.0, "{report:#}");
    assert!(ran.err.contains("/s  p99") && ran.err.contains("holds"), "{ran:#?}");
}

#[test]
fn ctrl_c_ends_a_run_and_a_search_and_says_so() {
    for (further, reported) in [(&["--for", "60s"][..], true), (&["--find", "p99<1h"], false)] {
        let (target, handle) = serve_observed(server(), "tcp@127.0.0.1:0");
        let target = target.to_string();
        let arguments = [&["bench", &target], &MULTIPLY[..], further].concat();
        let mut command = command(&arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The first call is made before the run.
        until("the run has begun", || handle.stats().iter().any(|stats| stats.calls > 1));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let ran = Ran::of(&child.wait_with_output().unwrap());
        ran.assert_error(130, &["interrupted; what was under way is cancelled"]);
        assert_eq!(ran.out.contains("open loop: latency counts"), reported, "{ran:#?}");
    }
}

#[test]
fn ramp_makes_half_the_calls_that_the_rate_would() {
    let run = ["--rate", "400", "--ramp", "500ms", "--for", "500ms", "--json"];
    let report: Value = serde_json::from_str(&bench(&arith(), &run).out).unwrap();
    assert_eq!((&report["calls"], &report["asked"]), (&100.into(), &Value::Null), "{report:#}");
}

#[test]
fn streams_are_measured_by_items_bytes_and_the_first_item() {
    let (target, files) = (feed(), Files::new());
    let measure = |arguments: &[&str]| {
        let ran = farcall(&[&["bench", &target], arguments, &["--json"]].concat());
        assert!(ran.code == 0 || is_refused(&ran), "{ran:#?}");
        (serde_json::from_str::<Value>(&ran.out).unwrap(), ran)
    };
    let bench = |arguments: &[&str]| measure(arguments).0;
    let report = bench(&["Feed.count", "from:=0", "to:=100", "--closed", "2", "--calls", "50"]);
    let streams = &report["streams"];
    assert_eq!(
        (&report["calls"], &streams["items"], &streams["cut"]),
        (&50.into(), &5000.into(), &0.into()),
        "{report:#}"
    );
    assert!(
        streams["bytes"].as_u64().unwrap() >= 5000 && streams["items_per_s"].as_f64().unwrap() > 0.0,
        "{report:#}"
    );
    assert_eq!(
        (&streams["max_open"], streams["first"].as_array().unwrap().len()),
        (&2.into(), 3),
        "{report:#}"
    );

    std::fs::write(files.path("items"), "1\n2\n").unwrap();
    let items = format!("@{}", files.path("items"));
    let report = bench(&["Feed.sum", &items, "--items", "7", "--closed", "2", "--calls", "10"]);
    assert_eq!((&report["calls"], &report["streams"]["items"]), (&10.into(), &70.into()), "{report:#}");

    let (report, ran) = measure(&["Feed.stall", "n:=1", "--rate", "50", "--for", "400ms"]);
    let (calls, cut, items) = (&report["calls"], &report["streams"]["cut"], &report["streams"]["items"]);
    assert_eq!((calls, cut), (&0.into(), &20.into()), "{report:#}");
    if is_refused(&ran) {
        // The streams were opened late, perhaps all of them just before the end.
        return;
    }
    // The end may come before the item of a stream that was opened just before it.
    assert!((1..=20).contains(&items.as_u64().unwrap()), "{report:#}");
    assert!(report["streams"]["max_open"].as_u64().unwrap() >= 10, "{report:#}");
}

#[test]
fn conditions_and_items_of_streams_are_checked() {
    let target = feed();
    let count = ["bench", &target, "Feed.count", "from:=0", "to:=10", "--closed", "1", "--calls", "20"];
    let ran = farcall(&[&count[..], &["--assert", "items>1,first-p99<1h"]].concat());
    assert!(
        ran.code == 0 && ran.out.contains("200 items") && ran.out.contains("time to the first item"),
        "{ran:#?}"
    );
    farcall(&[&count[..], &["--assert", "items<1"]].concat()).assert_error(1, &["assertion failed: items<1"]);
    farcall(&["bench", &target, "Feed.sum"]).assert_error(2, &["takes items"]);
    farcall(&["bench", &target, "Feed.fail_after", "n:=0"]).assert_error(20, &["failed after 0 items"]);
    bench(&arith(), &["--items", "3"]).assert_error(2, &["has no items, for --items"]);
}
