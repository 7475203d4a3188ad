//! Runs the command line: all trials one after the other, or one attack as a child process.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::attacker::Scheduling;
use crate::attacks::{self, Attack};
use crate::cli::{self, AttackArgs, Cli, Options};
use crate::clients;
use crate::mutations;
use crate::network;
use crate::report::{self, Row};
use crate::server::Supplies;
use crate::trial::{Plan, trial};
use crate::verdict::Verdict;

/// The number of trials of an attack while the machine is too busy to tell.
const MAX_TRIES: u32 = 3;

/// Runs the program with the arguments of its command line. An invalid argument ends the process.
pub(crate) fn run() -> ExitCode {
    raise_file_limit();
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Some(cli::Command::Attack(args)) => attack(args).map(|()| true),
        Some(cli::Command::Clients(args)) => clients::run(args),
        Some(cli::Command::Network(args)) => network::run(args),
        Some(cli::Command::NetworkServer { host, socket, ledger }) => {
            network::serve(*host, socket, ledger).map(|()| true)
        }
        Some(cli::Command::Mutations { count }) => mutations::run(*count).map(|()| true),
        Some(cli::Command::Caller { address, seconds }) => {
            clients::call_for_a_while(address, *seconds).map(|()| true)
        }
        None => run_all(&cli.options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hostile: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Makes one attack, on one thread, so that it takes at most one core.
fn attack(args: &AttackArgs) -> anyhow::Result<()> {
    let attack = find(&args.name)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(attack.run(args))?;
    // Connections end with the process.
    runtime.shutdown_background();
    Ok(())
}

/// Makes all attacks that were asked for; returns `true` if all verdicts are clean.
fn run_all(options: &Options) -> anyhow::Result<bool> {
    let chosen = chosen(&options.only)?;
    if options.list {
        for attack in &chosen {
            println!("{:34} {}", attack.name(), attack.summary());
        }
        return Ok(true);
    }
    let plan = Plan {
        seconds: Duration::from_secs(options.seconds),
        programs: programs(options.servers.as_deref())?,
        without_latency: options.without_latency,
        runs: options.runs,
        attacker: if options.idle_attacker { Scheduling::Idle } else { Scheduling::Usual },
        supplies: Supplies { small_disk: options.small_disk.clone(), cgroup: options.memory_cgroup.clone() },
    };
    // Threads for two honest clients; the attacker is another process.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut rows = Vec::new();
    for (number, attack) in chosen.iter().enumerate() {
        eprint!("{}/{} {} ... ", number + 1, chosen.len(), attack.name());
        let row = runtime.block_on(row(attack, &plan));
        eprintln!("{}", row.verdict);
        rows.push(row);
        // After each, so that a run that is stopped leaves what it has.
        if let Some(file) = &options.json {
            std::fs::write(file, report::json(&rows)?)
                .with_context(|| format!("writing {}", file.display()))?;
        }
    }
    println!("{}", report::table(&rows));
    if options.runs > 1 {
        println!("{}", report::repetitions(&rows));
    }
    let clean = rows.iter().filter(|row| row.verdict.is_clean()).count();
    let not_tried = rows.iter().filter(|row| row.verdict.is_not_tried()).count();
    println!("{clean} of {} clean, {not_tried} not tried", rows.len());
    Ok(clean + not_tried == rows.len())
}

/// Makes a trial of an attack; another one if the machine was too busy for it.
async fn row(attack: &Attack, plan: &Plan) -> Row {
    if let Some(missing) = attack.scarcity().and_then(|scarcity| plan.supplies.missing(scarcity)) {
        return Row::not_tried(attack, missing);
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let row = match trial(attack, plan).await {
            Ok(measured) => Row::new(attack, measured, plan.without_latency),
            Err(error) => Row::failed(attack, &format!("{error:#}")),
        };
        if tries == MAX_TRIES || !matches!(row.verdict, Verdict::Busy(_)) {
            return row;
        }
        eprint!("{}, again ... ", row.verdict);
    }
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<Attack>> {
    if names.is_empty() {
        return Ok(attacks::all());
    }
    names.iter().map(|name| find(name)).collect()
}

fn find(name: &str) -> anyhow::Result<Attack> {
    attacks::all()
        .into_iter()
        .find(|attack| attack.name() == name)
        .with_context(|| format!("there is no attack `{name}`: --list shows all"))
}

/// Returns the directory with the servers' programs, and builds them if cargo started this program.
fn programs(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let own = env::current_exe().context("finding this program")?;
    let directory = own.parent().context("this program is in no directory")?.to_owned();
    if let Some(cargo) = env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "-p", "demo", "-p", "farcall-registry-server"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().context("starting cargo")?;
        ensure!(status.success(), "cargo could not build demo and registry-server");
    }
    for (program, package) in [("demo", "demo"), ("registry-server", "farcall-registry-server")] {
        if !directory.join(program).exists() {
            bail!(
                "{} is missing: build it with `cargo build -p {package}`, or set --servers",
                directory.join(program).display()
            );
        }
    }
    Ok(directory)
}

/// Raises the limit of open files for this process and those that it starts: many attacks are many connections.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without it, attacks open fewer connections; they report that themselves.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
