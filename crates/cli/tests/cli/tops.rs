//! `top`, once and in a terminal.

use std::process::{Command, Stdio};

use farcall::Address;
use serde_json::Value;

use crate::support::feed::feed_server;
use crate::support::{arith, command, farcall, serve_observed, until};

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

/// A session of tmux, which ends with it.
struct Tmux(String);

impl Tmux {
    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.0]).args(arguments).output();
        String::from_utf8(output.expect("tmux is needed; `./test` installs it").stdout).unwrap()
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

#[test]
fn top_fills_the_terminal_and_leaves_it_as_it_was() {
    let tmux = Tmux(format!("farcall-{}", std::process::id()));
    let target = arith();
    tmux.run(&["new-session", "-d", "-x", "120", "-y", "20", "env PS1='$ ' sh"]);
    until("a shell", || tmux.screen().contains('$'));
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
