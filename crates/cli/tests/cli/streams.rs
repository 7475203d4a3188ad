//! `call` of methods with items.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::feed::{feed, feed_server};
use crate::support::{Files, Ran, command, farcall, farcall_with, serve_observed, until};

fn assert_ran(ran: &Ran, code: i32, out: &str, err: &str) {
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (code, out, err), "{ran:#?}");
}

#[test]
fn items_are_alone_on_standard_output_and_the_result_behind_them_is_not() {
    let target = feed();
    for codec in ["json", "msgpack"] {
        let ran = farcall(&["call", &target, "Feed.count", "from:=3", "to:=6", "--codec", codec]);
        assert_ran(&ran, 0, "3\n4\n5\n", "result: 3\n");
    }
    let ran = farcall(&["call", &target, "Feed.count", "[3, 5]", "--tagged"]);
    assert_ran(&ran, 0, "{\"item\":3}\n{\"item\":4}\n{\"result\":2}\n", "");
    let ran = farcall(&["call", &target, "Feed.count", "from:=0", "to:=100000"]);
    let numbers: Vec<u64> = ran.out.lines().map(|line| line.parse().unwrap()).collect();
    assert!(ran.code == 0 && numbers.into_iter().eq(0..100_000), "{}", ran.err);
}

#[test]
fn items_are_read_from_standard_input_or_a_file() {
    let (target, files) = (feed(), Files::new());
    std::fs::write(files.path("items"), "1\n\n2\r\n39").unwrap();
    let file = format!("@{}", files.path("items"));
    assert_ran(&farcall(&["call", &target, "Feed.sum", &file]), 0, "42\n", "");
    let ran = farcall_with("\"a\"\n\"\\u009b2J\"\n", &["call", &target, "Feed.echo", "-", "-o", "json"]);
    assert_ran(&ran, 0, "\"a\"\n\"\\u009b2J\"\n", "result: 2\n");
    let ran =
        farcall_with("\"a\"\n\"b\"\n\"c\"\n", &["call", &target, "Feed.first", "n:=2", "-", "--tagged"]);
    assert_ran(&ran, 0, "{\"result\":2}\n", "");
    farcall(&["call", &target, "Feed.sum"])
        .assert_error(2, &["takes items", "end it with - for standard input"]);
    farcall(&["call", &target, "Feed.sum", "@/there/is/none"]).assert_error(2, &["/there/is/none"]);
}

#[test]
fn method_that_takes_no_more_ends_the_command_while_its_input_is_open() {
    let mut command = command(&["call", &feed(), "Feed.first", "n:=1", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"\"a\"\n").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!((child.wait().unwrap().code(), out.as_str()), (Some(0), "1\n"));
    drop(stdin);
}

#[test]
fn line_that_is_no_item_cancels_the_call() {
    let (target, handle) = serve_observed(feed_server(), "tcp@127.0.0.1:0");
    let ran = farcall_with("1\noops\n", &["call", &target.to_string(), "Feed.sum", "-"]);
    ran.assert_error(2, &["line 2 of standard input: no JSON", "items: 0 received, 1 sent"]);
    until("the handler is gone", || handle.in_flight() == 0);
}

#[test]
fn errors_have_the_exit_codes_of_plain_calls_and_the_items_before_them() {
    let target = feed();
    let ran = farcall(&["call", &target, "Feed.fail_after", "n:=2"]);
    ran.assert_error(
        20,
        &["failed after 2 items", "method: Feed.fail_after", "details: {\"after\":2}", "items: 2 received"],
    );
    assert_eq!(ran.out, "0\n1\n");
    let ran = farcall(&["call", &target, "Feed.fail_after", "n:=1", "--tagged"]);
    assert!(ran.code == 20 && ran.err.is_empty(), "{ran:#?}");
    assert!(ran.out.starts_with("{\"item\":0}\n{\"error\":{\"code\":\"application\""), "{ran:#?}");
    let stall = ["call", &target, "Feed.stall"];
    let run = |arguments: &[&str]| farcall(&[&stall[..], arguments].concat());
    run(&["n:=0", "--first-within", "50ms"])
        .assert_error(12, &["no item and no response", "items: 0 received"]);
    // On a busy machine the time may be over before the third item is there: once more, then.
    let all_items_come = |arguments: &[&str], errors: &[&str]| {
        until("all items come in time", || {
            let ran = run(&[&["n:=3"], arguments].concat());
            let items = ran.out.lines().count();
            ran.assert_error(12, &[&format!("items: {items} received")]);
            assert!(errors.iter().any(|error| ran.err.contains(error)), "{ran:#?}");
            items == 3
        });
    };
    all_items_come(&["--gap", "50ms"], &["no item within 50 ms"]);
    // The server's answer may come first. Its limit is what is left of the time when the call is sent.
    let of_server = "`Feed.stall` was stopped: it did not end within ";
    all_items_come(&["--timeout", "300ms"], &["within 300 ms", of_server]);
    let input = ["call", &target, "Feed.echo", "-", "--gap", "50ms"];
    let mut child =
        command(&input).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Fails if the time was over before.
    let _ = stdin.write_all(b"\"a\"\n");
    assert_eq!(child.wait().unwrap().code(), Some(12));
    drop(stdin);
}

#[test]
fn arguments_for_other_calls_are_refused() {
    let target = feed();
    for (arguments, part) in [
        (&["Feed.count", "[1,2]", "--all"][..], "streams, which --all cannot do"),
        (&["Feed.count", "--lines"], "streams, which --lines cannot do"),
        (&["Feed.sum", "-", "--gap", "1s"], "sends no items, for --gap"),
        (&["Feed.count", "from:=1"], "`to: u64` is missing"),
        (&["farcall.services", "--tagged"], "has no items"),
    ] {
        farcall(&[&["call", &target], arguments].concat()).assert_error(2, &[part]);
    }
    let ran = farcall(&["call", &target, "Feed.count", "[1,3]", "--no-check", "--stream", "out"]);
    assert_ran(&ran, 0, "1\n2\n", "result: 2\n");
}

#[test]
fn ctrl_c_cancels_the_call_and_says_how_many_items_came() {
    let (target, handle) = serve_observed(feed_server(), "tcp@127.0.0.1:0");
    let mut command = command(&["call", &target.to_string(), "Feed.stall", "n:=3"]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let items: Vec<_> =
        BufReader::new(child.stdout.take().unwrap()).lines().take(3).map(Result::unwrap).collect();
    assert_eq!((items, handle.in_flight()), (vec!["0".to_owned(), "1".to_owned(), "2".to_owned()], 1));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(err.contains("what was under way is cancelled") && err.contains("items: 3 received"), "{err}");
    until("the handler is gone", || handle.in_flight() == 0);
}

#[test]
fn input_is_read_no_faster_than_the_server_takes_it() {
    const LINE: &[u8] = &[b'1'; 1024];
    let (target, handle) = serve_observed(feed_server(), "tcp@127.0.0.1:0");
    let mut command = command(&["call", &target.to_string(), "Feed.hold", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let writer = thread::spawn(move || {
        let line = [b"\"", LINE, b"\"\n"].concat();
        // Ends when the command has gone.
        while stdin.write_all(&line).is_ok() {
            count.fetch_add(line.len(), Ordering::Relaxed);
        }
    });
    let is_full = || handle.overview().streams.iter().any(|stream| stream.held_bytes >= 60 * 1024);
    until("the window is full", is_full);
    // The window of the stream, the connection's buffer, and the pipe.
    assert!(written.load(Ordering::Relaxed) < 2 << 20, "{written:?}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    writer.join().unwrap();
    assert!(written.load(Ordering::Relaxed) < 2 << 20, "{written:?}");
}

#[test]
fn pipe_that_is_not_read_holds_the_server_back_and_ctrl_c_still_ends_the_command() {
    let (target, handle) = serve_observed(feed_server(), "tcp@127.0.0.1:0");
    let mut command = command(&["call", &target.to_string(), "Feed.count", "from:=0", "to:=1000000000"]);
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    until("the pipe is full", || handle.stream_metrics().stalls >= 1);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    until("the handler is gone", || handle.in_flight() == 0);
}

#[test]
fn verbose_tells_the_first_item_and_the_bytes() {
    let ran = farcall(&["call", &feed(), "Feed.count", "from:=1", "to:=4", "-v"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "1\n2\n3\n"), "{ran:#?}");
    for part in ["handshake", "open", "first item", "end", "received           3  items with 3 bytes"] {
        assert!(ran.err.contains(part), "no `{part}` in {ran:#?}");
    }
}
