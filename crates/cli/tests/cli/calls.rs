//! `ls`, `describe` and `call`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::feed::feed;
use crate::support::{Files, arith, command, farcall, farcall_with, serve, serve_observed, server, until};

#[test]
fn ls_tells_the_items_of_methods_that_stream() {
    let ran = farcall(&["ls", &feed()]);
    for signature in [
        "Feed.count(from: u64, to: u64) -> u64, sends u64 ",
        "Feed.echo() -> Result<u64, Status>, takes String, sends String ",
    ] {
        assert!(ran.out.contains(signature), "no `{signature}` in {ran:#?}");
    }
}

#[test]
fn ls_lists_methods_with_their_documentation() {
    let target = arith();
    let ran = farcall(&["ls", &target, "Arith"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let line = ran.out.lines().find(|line| line.starts_with("Arith.multiply")).unwrap();
    assert!(line.contains("(a: i64, b: i64) -> i64") && line.contains("Multiplies two numbers."), "{line}");
    let ran = farcall(&["ls", &target, "-o", "ndjson"]);
    assert!(ran.out.starts_with("[{\"name\":\"Arith\",\"doc\":\"Integer arithmetic.\""), "{ran:#?}");
    farcall(&["ls", &target, "Aryth"]).assert_error(2, &["no service `Aryth`", "did you mean `Arith`?"]);
}

#[test]
fn describe_shows_signature_and_a_call() {
    let target = arith();
    let call = format!("$ farcall call {target} Arith.multiply '{{\"a\":0,\"b\":0}}'");
    farcall(&["describe", &target, "Arith.multiply"]).assert_out(&format!(
        "Arith.multiply(a: i64, b: i64) -> i64 Multiplies two numbers. It is idempotent. {call}"
    ));
    let ran = farcall(&["describe", &target, "Arith.divide"]);
    assert!(ran.out.contains("    type DivideError = { dividend: i64 }\n"), "{ran:#?}");
    let ran = farcall(&["describe", &target, "Arith.divide", "-o", "json"]);
    let described: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let schema = &described["schema"];
    let definitions: Vec<_> = schema["$defs"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        (&described["name"], definitions.join(",")),
        (&"divide".into(), "DivideError".to_owned()),
        "{described:#}"
    );
    let arguments = &schema["services"][0]["methods"][0]["arguments"];
    assert_eq!(arguments["properties"]["a"]["type"], "integer", "{described:#}");
    let ran = farcall(&["describe", &feed(), "Feed.echo"]);
    assert!(
        ran.out.contains("It takes items of type String.\n    It sends items of type String."),
        "{ran:#?}"
    );
    assert!(ran.out.contains("Feed.echo '{}' -\n"), "{ran:#?}");
    farcall(&["describe", &target, "Arith.multipy"]).assert_error(2, &["did you mean `Arith.multiply`?"]);
}

#[test]
fn arguments_have_many_forms_and_the_result_is_alone() {
    let (target, files) = (arith(), Files::new());
    std::fs::write(files.path("args.json"), "[6, 7]").unwrap();
    let file = format!("@{}", files.path("args.json"));
    for arguments in [
        &["a:=6", "b:=7"][..],
        &["{\"a\": 6, \"b\": 7}"],
        &["[6, 7]"],
        &[&file],
        &["a:=6", "--timeout", "9s", "b:=7"],
    ] {
        for codec in ["json", "msgpack"] {
            let ran = farcall(&[&["call", &target, "Arith.multiply", "--codec", codec], arguments].concat());
            assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "42\n", ""), "{arguments:?}");
        }
    }
    farcall_with("[6, 7]", &["call", &target, "Arith.multiply", "-"]).assert_out("42");
    let ran = farcall(&["call", &target, "Arith.echo", "data=AQID", "note=\u{9b}2J", "-o", "ndjson"]);
    ran.assert_out(r#"["AQID","\u009b2J"]"#);
    farcall(&["call", &target, "Arith.hang", "--one-way"]).assert_out("");
}

#[test]
fn errors_tell_code_execution_and_place() {
    let target = arith();
    let endpoint = format!("endpoint: tcp@{target}");
    farcall(&["call", &target, "Arith.divide", "a:=1", "b:=0"]).assert_error(
        20,
        &[
            r"error: 1 cannot be divided by 0\u{1b}[2J code: application execution: done may be repeated: no",
            "method: Arith.divide",
            &endpoint,
            r#"phase: answer details: {"dividend":1}"#,
        ],
    );
    let hang = farcall(&["call", &target, "Arith.hang", "--timeout", "50ms"]);
    hang.assert_error(12, &["code: deadline_exceeded execution: maybe may be repeated: no"]);
    let refused = farcall(&["call", &target, "Arith.refuse", "--no-check"]);
    refused.assert_error(16, &["not you", "execution: refused may be repeated: yes"]);
    let none = farcall(&["call", "unix@/there/is/none", "Arith.hang"]);
    none.assert_error(3, &["code: unavailable execution: not_sent may be repeated: yes", "phase: connect"]);
}

#[test]
fn wrong_arguments_and_methods_are_not_sent() {
    let target = arith();
    for (arguments, parts) in [
        (&["Arith.multiply", "a:=6"][..], &["`b: i64` is missing"][..]),
        (&["Arith.multiply", "a=6", "b:=7"], &["`a: i64` cannot be a text; write `a:=...`"]),
        (&["Arith.multiply", "x:=6"], &["no parameter `x` in (a: i64, b: i64) -> i64"]),
        (&["Arith.multply", "a:=6"], &["no method `Arith.multply`", "did you mean `Arith.multiply`?"]),
        (&["Arith.multiply", "a:=x"], &["no JSON"]),
    ] {
        farcall(&[&["call", &target], arguments].concat()).assert_error(2, parts);
    }
    let unchecked = farcall(&["call", &target, "Arith.multply", "a:=6", "--no-check"]);
    unchecked.assert_error(15, &["did you mean `Arith.multiply`?"]);
}

#[test]
fn verbose_tells_where_the_time_went() {
    let ran = farcall(&["call", &arith(), "Arith.multiply", "a:=6", "b:=7", "-v"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "42\n"), "{ran:#?}");
    let phases: Vec<_> = ran.err.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let without_queue: Vec<_> = phases.iter().copied().filter(|phase| *phase != "queue").collect();
    assert_eq!(without_queue, ["connect", "handshake", "wait", "decode"], "{ran:#?}");
}

#[test]
fn lines_are_answered_in_order_and_errors_are_lines() {
    let target = arith();
    let input = "{\"a\":1,\"b\":1}\n\n[6,0]\n[8,2]\n";
    let arguments = ["call", &target, "Arith.divide", "--lines", "--concurrency", "4"];
    let ran = farcall_with(input, &arguments);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!((ran.code, lines.len(), lines[0], lines[2]), (20, 3, "1", "4"), "{ran:#?}");
    assert!(lines[1].starts_with(r#"{"error":{"code":"application""#), "{ran:#?}");
}

#[test]
fn wrong_lines_are_not_sent_and_the_others_are() {
    let (target, handle) = serve_observed(server(), "tcp@127.0.0.1:0");
    let target = target.to_string();
    let arguments = ["call", &target, "Arith.multiply", "--lines"];
    let ran = farcall_with("[6,7]\n{\"a\":1}\n[1,\"x\"]\n[2,3]\n", &arguments);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!((ran.code, lines.len(), lines[0], lines[3]), (2, 4, "42", "6"), "{ran:#?}");
    let wrong =
        r#"{"error":{"code":"invalid_argument","message":"`b: i64` is missing","execution":"not_sent","#;
    assert!(lines[1].starts_with(wrong) && lines[2].contains("`b: i64` cannot be a text"), "{ran:#?}");
    let stats = handle.stats();
    assert_eq!(stats.iter().find(|stats| stats.name == "Arith.multiply").unwrap().calls, 2);
    let unchecked = farcall_with("{\"a\":1}\n", &[&arguments[..], &["--no-check"]].concat());
    assert!(unchecked.code == 13 && unchecked.out.contains(r#""execution":"refused""#), "{unchecked:#?}");
}

#[test]
fn all_instances_are_called() {
    let target = format!("{},{}", arith(), arith());
    let ran = farcall(&["call", &target, "Arith.multiply", "a:=6", "b:=7", "--all"]);
    let rows: Vec<_> = ran.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!((ran.code, rows.len(), &rows[0]), (0, 3, &vec!["ENDPOINT", "RESULT"]), "{ran:#?}");
    assert!(rows[1..].iter().all(|row| row[0].starts_with("tcp@127.0.0.1:") && row[1] == "42"), "{ran:#?}");
}

#[test]
fn errors_of_instances_are_the_last_column_in_short_and_whole_in_json() {
    // No user's server is at port 1, and it is the first in the order of addresses.
    let (none, up) = ("tcp@127.0.0.1:1", format!("tcp@{}", arith()));
    let call = |b: &str, output: &[&str]| {
        farcall(&[&["call", &format!("{none},{up}"), "Arith.divide", "a:=1", b, "--all"], output].concat())
    };
    let ran = call("b:=1", &[]);
    let rows: Vec<_> = ran.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let expected =
        [vec!["ENDPOINT", "RESULT", "ERROR"], vec![none, "unavailable,", "not_sent"], vec![&up, "1"]];
    assert_eq!((ran.code, &rows[..]), (3, &expected[..]), "{ran:#?}");
    let ran = call("b:=0", &[]);
    assert!(
        ran.code != 0 && ran.out.contains(r"application, done: 1 cannot be divided by 0\u{1b}[2J"),
        "{ran:#?}"
    );
    let ran = call("b:=1", &["-o", "ndjson"]);
    let whole = format!(r#"{{"endpoint":"{none}","error":{{"code":"unavailable","message":""#);
    assert!(ran.code == 3 && ran.out.contains(&whole), "{ran:#?}");
}

#[test]
fn contexts_name_target_token_and_timeout() {
    let files = Files::new();
    let builder = server().authenticate(farcall::server::Tokens::fixed([("alice", "s3cret-token")]).unwrap());
    let target = serve(builder, "tcp@127.0.0.1:0");
    let write = |token: &str, timeout: &str| {
        let text = format!("[shop]\ntarget = \"{target}\"\n{token}\ntimeout = \"{timeout}\"\n");
        std::fs::write(files.path("contexts.toml"), text).unwrap();
    };
    let run = |arguments: &[&str]| {
        let mut command = command(arguments);
        command.env("FARCALL_CONTEXTS", files.path("contexts.toml")).env("SHOP_TOKEN", "s3cret-token");
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    std::fs::write(files.path("token"), "s3cret-token\n").unwrap();
    for token in
        ["token-file = \"token\"", "token-env = \"SHOP_TOKEN\"", "token-command = \"echo s3cret-token\""]
    {
        write(token, "60s");
        assert_eq!(
            run(&["call", "@shop", "Arith.multiply", "a:=6", "b:=7"]),
            (0, "42\n".to_owned()),
            "{token}"
        );
    }
    write("token-file = \"token\"", "50ms");
    assert_eq!(run(&["call", "@shop", "Arith.hang"]).0, 12);
    write("", "60s");
    assert_eq!(run(&["call", "@shop", "Arith.multiply", "a:=6", "b:=7"]).0, 3, "without a token");
    assert_eq!(run(&["call", "@other", "Arith.hang"]).0, 2);
}

#[test]
fn ctrl_c_cancels_the_call_at_the_server() {
    let (target, handle) = serve_observed(server(), "tcp@127.0.0.1:0");
    let mut command = command(&["call", &target.to_string(), "Arith.hang"]);
    let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    until("the handler runs", || handle.in_flight() == 1);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut err = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut err).unwrap();
    assert!(err.contains("interrupted; what was under way is cancelled"), "{err}");
    until("the handler is gone", || handle.in_flight() == 0);
}
