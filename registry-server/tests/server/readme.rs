//! Every command of the README works as it is written there.

use std::process::Command;

use crate::support::{Running, command, text};

const README: &str = include_str!("../../README.md");

/// The blocks of shell commands.
fn blocks() -> impl Iterator<Item = &'static str> {
    README.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap())
}

/// Runs the block in a shell that stops at the first command that fails; what it wrote.
fn run(block: &str, registry: &Running, directory: &std::path::Path) -> String {
    // Output goes to a file: what is left running in the background would hold a pipe open.
    let output = directory.join("output");
    let out = std::fs::File::create(&output).unwrap();
    let status = Command::new("bash")
        .args(["-e", "-u", "-o", "pipefail", "-c", block])
        .env("REGISTRY", &registry.url)
        .env("HOME", text(directory))
        .current_dir(directory)
        .stdin(std::process::Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .status()
        .unwrap();
    let wrote = std::fs::read_to_string(&output).unwrap();
    assert!(status.success(), "{block}\n---- wrote\n{wrote}");
    wrote
}

/// The lines `#> text` of a block: its commands print that, among other things.
fn expected(block: &str) -> impl Iterator<Item = &str> {
    block.lines().filter_map(|line| line.strip_prefix("#> "))
}

#[tokio::test]
async fn every_command_works_and_prints_what_stands_below_it() {
    let registry = Running::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    // The others start it and say where it is.
    let blocks: Vec<_> = blocks().filter(|block| block.contains("$REGISTRY")).collect();
    assert!(blocks.len() >= 8, "register, list, heartbeat, watch, drain, remove, tokens, health");
    for block in blocks {
        let wrote = run(block, &registry, directory.path());
        assert!(expected(block).count() > 0, "nothing is said of what it prints: {block}");
        for part in expected(block) {
            assert!(wrote.contains(part), "{part:?} is not printed by\n{block}\n---- it wrote\n{wrote}");
        }
    }
}

#[tokio::test]
async fn the_command_that_starts_it_does() {
    let line = blocks().find_map(|block| block.strip_prefix("registry-server ")).unwrap();
    let line = line.replace("127.0.0.1:7100", "127.0.0.1:0");
    let args: Vec<_> = line.split_whitespace().collect();
    let directory = tempfile::tempdir().unwrap();
    let registry = Running::spawn(command(&args).current_dir(&directory));
    registry.register("tcp@127.0.0.1:7001", "").await;
    registry.end();
    assert!(directory.path().join("registry.json").exists());
}
