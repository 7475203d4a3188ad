//! Live completion: `complete-words`, and the scripts for shells that call it, in those shells.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use farcall_test_support::machine;

use crate::support::feed::feed;
use crate::support::tmux::Tmux;
use crate::support::{Files, arith, command, farcall, serve_observed, server, until};

/// Waits until `complete` returns `expected` for a line. On a busy machine a server may answer too late:
/// then there is no candidate, and the shell is asked again.
fn until_completed<T>(line: &str, complete: impl Fn(&str) -> T, expected: &T)
where
    T: Default + PartialEq + std::fmt::Debug,
{
    until(&format!("{line} is completed"), || {
        let completed = complete(line);
        assert!(completed == *expected || completed == T::default(), "{line}: {completed:?}");
        completed == *expected
    });
}

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
    let completes = |line: &str, candidates: &[&str]| {
        until_completed(line, complete, &candidates.iter().map(ToString::to_string).collect());
    };
    completes(&format!("call {target} Arith.m"), &["Arith.multiply"]);
    completes(&format!("call --timeout 5s {target} -v Arith.d"), &["Arith.divide"]);
    completes(&format!("ls {target} "), &["Arith"]);
    until("all methods are candidates", || complete(&format!("describe {target} ")).len() == 6);
    completes(&format!("call {target} Arith.multiply "), &["a:=", "b:="]);
    completes(&format!("bench {target} Arith.multiply a:=1 --rate 9 "), &["b:="]);
    for nothing in ["call {target} Arith.multiply --", "call {target} Nothing.at ", "registry ls "] {
        assert!(complete(&nothing.replace("{target}", &target)).is_empty(), "{nothing}");
    }
    completes(&format!("call {} Feed.ec", feed()), &["Feed.echo"]);
}

#[test]
fn answers_are_cached_and_errors_are_silent_and_quick() {
    let files = Files::new();
    let (target, handle) = serve_observed(server(), "tcp@127.0.0.1:0");
    let line = format!("farcall call {target} Arith.m");
    until_completed(&line, |line| complete(&files.path("cache"), line), &vec!["Arith.multiply".to_owned()]);
    handle.stop();
    until("the server is gone", || farcall(&["ping", &target.to_string(), "--count", "1"]).code == 3);
    let cached = std::fs::read_dir(files.path("cache/farcall/completions")).unwrap().count();
    assert_eq!(cached, 1);
    // On a machine so busy that the cached answer is too old, there is none.
    let again = complete(&files.path("cache"), &line);
    assert!(again.is_empty() || again == ["Arith.multiply"], "{again:?}");
    assert!(complete(&files.path("other"), &line).is_empty());

    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("farcall call {} A", silent.local_addr().unwrap());
    // 200 ms, and the start of the process.
    machine::kept_once(Duration::from_millis(500), || {
        let start = Instant::now();
        assert!(complete(&files.path("cache"), &line).is_empty());
        start.elapsed()
    });
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

/// Returns `PATH` with the command's folder in front.
fn path() -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_farcall")).parent().unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

/// Writes the script of a shell, and contexts with one that is called `shop`; returns the paths of both.
fn script(files: &Files, shell: &str) -> (String, String) {
    let (script, contexts) = (files.path("completions"), files.path("contexts.toml"));
    std::fs::write(&script, farcall(&["completions", shell]).out).unwrap();
    std::fs::write(&contexts, "[shop]\ntarget = \"127.0.0.1:1\"\n").unwrap();
    (script, contexts)
}

#[test]
fn fish_completes_methods_arguments_contexts_and_flags() {
    let (target, files) = (arith(), Files::new());
    let (script, contexts) = script(&files, "fish");
    let complete = |line: &str| {
        let output = Command::new("fish")
            .args(["--no-config", "-c", "source $argv[1]; complete -C $argv[2]", &script, line])
            .env("PATH", path())
            .env("HOME", files.path("home"))
            .env("XDG_CACHE_HOME", files.path("cache"))
            .env("FARCALL_CONTEXTS", &contexts)
            .output()
            .expect("fish is needed; `./test` installs it");
        String::from_utf8(output.stdout).unwrap()
    };
    let completes = |line: &str, expected: &str| until_completed(line, complete, &expected.to_owned());
    completes(&format!("farcall call {target} Arith.m"), "Arith.multiply\tMultiplies two numbers.\n");
    completes(&format!("farcall call {target} Arith.multiply "), "a:=\ti64\nb:=\ti64\n");
    completes(&format!("farcall call --timeout 5s {target} Arith.multiply a:=6 "), "b:=\ti64\n");
    completes("farcall call @", "@shop\tcontext\n");
    assert!(complete("farcall desc").starts_with("describe\t"));
    assert!(complete(&format!("farcall bench {target} Arith.multiply --clo")).starts_with("--closed\t"));
}

#[test]
fn zsh_completes_methods_arguments_contexts_and_flags() {
    let (target, files) = (arith(), Files::new());
    let (script, contexts) = script(&files, "zsh");
    let settings = format!("PS1='$ '; autoload -Uz compinit; compinit -u -D; source {script}\n");
    std::fs::write(files.path(".zshrc"), settings).unwrap();
    let folder = files.path("");
    // `env` passes them on: tmux starts the shell with its own environment.
    let shell = format!(
        "env PATH='{}' ZDOTDIR='{folder}' XDG_CACHE_HOME='{folder}' FARCALL_CONTEXTS='{contexts}' zsh -i",
        path()
    );
    let tmux = Tmux::start("zsh", 200, &shell);
    let complete = |line: &str, completed: &[&str]| {
        let mut typed = None;
        until(&format!("{line} is completed"), || {
            // On a busy machine the server may answer too late: the line is typed once more.
            if typed.is_none_or(|typed: Instant| typed.elapsed() > Duration::from_secs(5)) {
                tmux.run(&["send-keys", "C-u"]);
                tmux.run(&["send-keys", "-l", "--", line]);
                tmux.run(&["send-keys", "Tab"]);
                typed = Some(Instant::now());
            }
            let screen = tmux.screen();
            completed.iter().all(|completed| screen.contains(completed))
        });
        // The next line starts at the top. Keys that come while the shell draws its new prompt are echoed: once more, then.
        tmux.run(&["send-keys", "C-c"]);
        until("the screen is cleared", || {
            tmux.run(&["send-keys", "C-u", "C-l"]);
            tmux.screen().trim() == "$"
        });
    };
    complete("farcall desc", &["$ farcall describe"]);
    complete("farcall call @s", &["$ farcall call @shop"]);
    complete(&format!("farcall call {target} Arith.m"), &[&format!("{target} Arith.multiply")]);
    complete(&format!("farcall call {target} Arith.multiply "), &["a:=  -- i64", "b:=  -- i64"]);
    complete(
        &format!("farcall call --timeout 5s {target} Arith.multiply a:=6 "),
        &["Arith.multiply a:=6 b:="],
    );
    complete(&format!("farcall bench {target} Arith.multiply a:=6 --clo"), &["a:=6 --closed"]);
}

#[test]
fn bash_completes_behind_colons_and_falls_back_to_flags() {
    let (target, files) = (arith(), Files::new());
    let script = files.path("completion.bash");
    std::fs::write(&script, farcall(&["completions", "bash"]).out).unwrap();
    let complete = |line: &str| {
        // As readline does it: words are split at `:` and `=`.
        let driver = r#"source "$1"; COMP_LINE=$2; COMP_POINT=${#2}; IFS=$' \t\n:=' read -ra COMP_WORDS <<< "$2"
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); last=${COMP_WORDS[$COMP_CWORD]}
            _farcall_live farcall "$last" ""; printf '%s\n' "${COMPREPLY[@]}""#;
        let output = Command::new("bash")
            .args(["-c", driver, "bash", &script, line])
            .env("PATH", path())
            .env("XDG_CACHE_HOME", files.path("cache"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let completes = |line: &str, candidate: &str| {
        until(&format!("{line} is completed"), || complete(line).trim_end() == candidate);
    };
    completes(&format!("farcall call {target} Arith.mul"), "Arith.multiply");
    completes(&format!("farcall call {target} Arith.multiply a:=6 "), "b:=");
    assert_eq!(complete("farcall desc"), "describe\n");
}
