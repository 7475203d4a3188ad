//! Runs every command of the README.

use std::process::Command;

use crate::support::{Running, command, text};

const README: &str = include_str!("../../README.md");

/// Returns the blocks of shell commands.
fn blocks() -> impl Iterator<Item = &'static str> {
    README.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap())
}

/// Runs the block in a shell that stops at the first failing command; returns its output.
fn run(block: &str, registry: &Running, directory: &std::path::Path) -> String {
    // Output goes to a file, because background commands would keep a pipe open.
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
    let printed = std::fs::read_to_string(&output).unwrap();
    assert!(status.success(), "{block}\n---- printed\n{printed}");
    printed
}

/// Returns the lines `#> text` of a block, which its output must contain.
fn expected(block: &str) -> impl Iterator<Item = &str> {
    block.lines().filter_map(|line| line.strip_prefix("#> "))
}

#[tokio::test]
async fn every_readme_command_prints_its_expected_output() {
    let registry = Running::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    // The other blocks start the registry and set its URL.
    let blocks: Vec<_> = blocks().filter(|block| block.contains("$REGISTRY")).collect();
    assert!(blocks.len() >= 8, "register, list, heartbeat, watch, drain, remove, tokens, health");
    for block in blocks {
        let printed = run(block, &registry, directory.path());
        assert!(expected(block).count() > 0, "the block has no expected output: {block}");
        for part in expected(block) {
            assert!(
                printed.contains(part),
                "{part:?} is not printed by\n{block}\n---- it printed\n{printed}"
            );
        }
    }
}

#[tokio::test]
async fn start_command_of_the_readme_works() {
    let line = blocks().find_map(|block| block.strip_prefix("registry-server ")).unwrap();
    let line = line.replace("127.0.0.1:7100", "127.0.0.1:0");
    let args: Vec<_> = line.split_whitespace().collect();
    let directory = tempfile::tempdir().unwrap();
    let registry = Running::spawn(command(&args).current_dir(&directory));
    registry.register("tcp@127.0.0.1:7001", "").await;
    registry.end();
    assert!(directory.path().join("registry.json").exists());
}
