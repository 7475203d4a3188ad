//! Live completion: `complete-words`, and the script for bash that calls it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use farcall_test_support::machine;

use crate::support::feed::feed;
use crate::support::{Files, arith, command, farcall, serve_observed, server, until};

/// Completes a line, whose last word is at the cursor; returns the candidates.
fn complete(cache: &str, line: &str) -> Vec<String> {
    let words: Vec<_> = ["complete-words", "--"].into_iter().chain(line.split(' ')).collect();
    let output = command(&words).env("XDG_CACHE_HOME", cache).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{line}: {output:?}");
    let out = String::from_utf8(output.stdout).unwrap();
    out.lines().map(|line| line.split_once('\t').unwrap().0.to_owned()).collect()
}

#[test]
fn services_methods_and_arguments_are_those_of_the_server() {
    let (target, files) = (arith(), Files::new());
    let complete = |line: &str| complete(&files.path("cache"), &format!("farcall {line}"));
    assert_eq!(complete(&format!("call {target} Arith.m")), ["Arith.multiply"]);
    assert_eq!(complete(&format!("call --timeout 5s {target} -v Arith.d")), ["Arith.divide"]);
    assert_eq!(complete(&format!("ls {target} ")), ["Arith"]);
    assert_eq!(complete(&format!("describe {target} ")).len(), 6);
    assert_eq!(complete(&format!("call {target} Arith.multiply ")), ["a:=", "b:="]);
    assert_eq!(complete(&format!("bench {target} Arith.multiply a:=1 --rate 9 ")), ["b:="]);
    for nothing in ["call {target} Arith.multiply --", "call {target} Nothing.at ", "registry ls "] {
        assert!(complete(&nothing.replace("{target}", &target)).is_empty(), "{nothing}");
    }
    assert_eq!(complete(&format!("call {} Feed.ec", feed())), ["Feed.echo"]);
}

#[test]
fn answers_are_cached_and_errors_are_silent_and_quick() {
    let files = Files::new();
    let (target, handle) = serve_observed(server(), "tcp@127.0.0.1:0");
    let line = format!("farcall call {target} Arith.m");
    assert_eq!(complete(&files.path("cache"), &line), ["Arith.multiply"]);
    handle.stop();
    until("the server is gone", || farcall(&["ping", &target.to_string(), "--count", "1"]).code == 3);
    let cached = std::fs::read_dir(files.path("cache/farcall/completions")).unwrap().count();
    assert_eq!(cached, 1);
    // On a machine so busy that the cached answer is too old, there is none.
    let again = complete(&files.path("cache"), &line);
    assert!(again.is_empty() || again == ["Arith.multiply"], "{again:?}");
    assert!(complete(&files.path("other"), &line).is_empty());

    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let start = Instant::now();
    let line = format!("farcall call {} A", silent.local_addr().unwrap());
    assert!(complete(&files.path("cache"), &line).is_empty());
    // 200 ms, and the start of the process.
    assert!(start.elapsed() < machine::lengthened(Duration::from_millis(500)), "{:?}", start.elapsed());
}

#[test]
fn contexts_are_completed_and_their_commands_are_not_run() {
    let files = Files::new();
    let marker = files.path("was-run");
    let contexts = format!("[shop]\ntarget = \"{}\"\ntoken-command = \"touch {marker}\"\n", arith());
    std::fs::write(files.path("contexts.toml"), contexts).unwrap();
    let complete = |line: &[&str]| {
        let mut command = command(&[&["complete-words", "--", "farcall", "call"], line].concat());
        command
            .env("FARCALL_CONTEXTS", files.path("contexts.toml"))
            .env("XDG_CACHE_HOME", files.path("cache"));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(complete(&["@"]), "@shop\tcontext\n");
    assert_eq!(complete(&["@shop", "Arith."]), "");
    assert!(!Path::new(&marker).exists());
}

#[test]
fn bash_completes_behind_colons_and_falls_back_to_flags() {
    let (target, files) = (arith(), Files::new());
    let script = files.path("completion.bash");
    std::fs::write(&script, farcall(&["completions", "bash"]).out).unwrap();
    let folder = Path::new(env!("CARGO_BIN_EXE_farcall")).parent().unwrap();
    let complete = |line: &str| {
        // As readline does it: words are split at `:` and `=`.
        let driver = r#"source "$1"; COMP_LINE=$2; COMP_POINT=${#2}; IFS=$' \t\n:=' read -ra COMP_WORDS <<< "$2"
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); last=${COMP_WORDS[$COMP_CWORD]}
            _farcall_live farcall "$last" ""; printf '%s\n' "${COMPREPLY[@]}""#;
        let output = Command::new("bash")
            .args(["-c", driver, "bash", &script, line])
            .env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()))
            .env("XDG_CACHE_HOME", files.path("cache"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete(&format!("farcall call {target} Arith.mul")), "Arith.multiply\n");
    assert_eq!(complete(&format!("farcall call {target} Arith.multiply a:=6 ")), "b:=\n");
    assert_eq!(complete("farcall desc"), "describe\n");
}
