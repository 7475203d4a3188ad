//! `command`: what the command `farcall bench` reaches of this program's own figure, at the same server.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::Args;
use serde::Deserialize;

use crate::load::Figures;
use crate::measured::median;
use crate::peers::Peer;
use crate::process::{ServerProcess, this_program};

/// The scenario: 64 calls in flight on one connection.
const SCENARIO: &str = "mul64";
/// The same load, as the command makes it.
const ARGUMENTS: [&str; 6] = ["Arith.multiply", "a:=6", "b:=7", "--closed", "64", "--json"];

#[derive(Args)]
pub(crate) struct OfCommand {
    /// The command: a release build of `farcall-cli`.
    #[arg(long, value_name = "FILE", default_value = "../target/release/farcall")]
    farcall: PathBuf,
    /// Number of measurements of each, by turns.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// The measured time of each round, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    ms: u64,
    /// The least part of this program's calls a second that the command must make.
    #[arg(long, default_value_t = 0.8)]
    least: f64,
}

/// The part of the command's `--json` report that is compared.
#[derive(Deserialize)]
struct Report {
    rate: f64,
    failed: u64,
}

pub(crate) fn run(options: &OfCommand) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut serving = this_program(&["serve", "--peer", Peer::Farcall.name(), "--directory"])?;
    serving.arg(directory.path());
    let server = ServerProcess::run(serving)?;
    let (mut program, mut command, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    println!(
        "calls a second of {SCENARIO}\n{:>7} {:>12} {:>15} {:>6}",
        "round", "this program", "farcall bench", "ratio"
    );
    for round in 1..=options.rounds {
        // By turns which one is first, so that a machine that gets slower or faster does so for both.
        let (of_program, of_command) = if round % 2 == 1 {
            let first = of_program(&server, options.ms)?;
            (first, of_command(options, &server)?)
        } else {
            let first = of_command(options, &server)?;
            (of_program(&server, options.ms)?, first)
        };
        println!("{round:>7} {of_program:>12.0} {of_command:>15.0} {:>6.2}", of_command / of_program);
        program.push(of_program);
        command.push(of_command);
        ratios.push(of_command / of_program);
    }
    let ratio = median(ratios);
    println!("{:>7} {:>12.0} {:>15.0} {ratio:>6.2}", "median", median(program), median(command));
    ensure!(ratio >= options.least, "the ratio is below {}", options.least);
    Ok(())
}

fn of_program(server: &ServerProcess, ms: u64) -> anyhow::Result<f64> {
    let (pid, ms) = (server.pid().to_string(), ms.to_string());
    let loading = this_program(&[
        "load",
        "--peer",
        Peer::Farcall.name(),
        "--scenario",
        SCENARIO,
        "--address",
        &server.address,
        "--server",
        &pid,
        "--ms",
        &ms,
    ])?;
    let figures: Figures = serde_json::from_slice(&output(loading)?)?;
    Ok(figures.calls_per_s)
}

fn of_command(options: &OfCommand, server: &ServerProcess) -> anyhow::Result<f64> {
    let mut command = Command::new(&options.farcall);
    command.args(["bench", &server.address]).args(ARGUMENTS).args(["--for", &format!("{}ms", options.ms)]);
    let report: Report = serde_json::from_slice(&output(command)?)?;
    ensure!(report.failed == 0, "{} calls of the command failed", report.failed);
    Ok(report.rate)
}

/// Runs a program, and returns what it prints.
fn output(mut command: Command) -> anyhow::Result<Vec<u8>> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(output.stdout)
}
