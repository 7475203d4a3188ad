//! The transcripts of `docs/CLI.md` are true; completions and manual pages are made.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::places::{stand_ins, zookeeper};
use crate::registries::Running;
use crate::support::feed::feed;
use crate::support::{Files, arith, command, farcall, until};

/// The targets that the page writes: servers of `Arith` and of `Feed`, Consul, ZooKeeper, and `kubectl proxy`.
const WRITTEN: [&str; 5] =
    ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:8500", "127.0.0.1:2181", "127.0.0.1:8001"];

/// Returns the commands of a page's `console` blocks, each with its output.
fn transcripts(page: &str) -> Vec<(String, String)> {
    let mut transcripts: Vec<(String, String)> = Vec::new();
    let mut in_block = false;
    for line in page.lines() {
        match line {
            "```console" => in_block = true,
            "```" => in_block = false,
            _ if !in_block => {}
            line => match (line.strip_prefix("$ "), transcripts.last_mut()) {
                (Some(command), _) => transcripts.push((command.to_owned(), String::new())),
                (None, Some((_, output))) => output.push_str(&format!("{line}\n")),
                (None, None) => panic!("output without a command: {line}"),
            },
        }
    }
    transcripts
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn transcripts_of_the_manual_are_true() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CLI.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (server, zookeeper) = (arith(), zookeeper());
    let (agent, api) = stand_ins(&server);
    let place = format!("zookeeper://{zookeeper}");
    let registered = Running::start(&["registry", "register", &place, "Arith", &server]);
    until("it is registered", || farcall(&["registry", "ls", &place, "Arith"]).out.contains(&server));
    let targets = [server, feed(), agent.address.to_string(), zookeeper, api.address.to_string()];
    let pairs = || WRITTEN.iter().zip(&targets);
    let folder = Path::new(env!("CARGO_BIN_EXE_farcall")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let all = transcripts(&page);
    assert!(all.len() >= 10, "{all:#?}");
    for (command, expected) in all {
        let shell = pairs().fold(command.clone(), |text, (written, real)| text.replace(written, real));
        let output =
            Command::new("sh").args(["-c", &shell]).env("PATH", &path).stdin(Stdio::null()).output().unwrap();
        let mut found =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        if let Some(code) = output.status.code().filter(|code| *code != 0) {
            found.push_str(&format!("[exit code {code}]\n"));
        }
        let found = pairs().fold(found, |text, (written, real)| text.replace(real, written));
        assert_eq!(words(&found), words(&expected), "$ {command}\n{found}");
    }
    registered.interrupt();
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = farcall(&["completions", shell]);
        assert!(ran.code == 0 && ran.out.contains("describe"), "{shell}: {ran:#?}");
    }
    let files = Files::new();
    farcall(&["man", &files.path("man1")]).assert_out("");
    assert!(std::fs::read_to_string(files.path("man1/farcall-call.1")).unwrap().contains("concurrency"));
}

#[test]
fn no_color_is_obeyed() {
    let colored = |no_color: Option<&str>| {
        let mut command = command(&["ls", "127.0.0.1:1"]);
        // As a terminal would have it.
        command.env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        output.stderr.contains(&0x1b)
    };
    assert_eq!((colored(None), colored(Some("1"))), (true, false));
}

#[test]
fn help_has_exit_codes_and_a_wrong_command_line_is_told() {
    let help = farcall(&["--help"]);
    assert!(
        help.code == 0 && help.out.contains("Exit codes:") && help.out.contains("20 application"),
        "{help:#?}"
    );
    farcall(&["lss", "127.0.0.1:1"]).assert_error(2, &["unrecognized subcommand"]);
    farcall(&["ls"]).assert_error(2, &["<TARGET>"]);
}
