//! Counts the instructions of a call and reports growth: `cargo run --release -p farcall-instructions`.
//!
//! Time moves by a third from run to run on a busy machine; instructions do not. Each session runs twice
//! under callgrind, with few calls and with many, and the difference is what calls take. Its clock stands
//! still, so that nothing depends on how fast the machine is.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use farcall_instructions::callgrind::{count, is_installed};
use farcall_instructions::kept::{Kept, TOLERANCE, growth, over_budget, read, written};
use farcall_instructions::session::Session;
use tokio::runtime;

const FEW_CALLS: usize = 1_000;
const MANY_CALLS: usize = 5_000;

#[derive(Parser)]
#[command(about)]
struct Cli {
    /// The sessions, separated by commas; all if left out.
    #[arg(long, value_delimiter = ',')]
    sessions: Vec<Session>,
    /// Keeps what is counted instead of comparing it with what was kept.
    #[arg(long, conflicts_with = "sessions")]
    update: bool,
    /// File with the stored counts.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.txt"))]
    file: PathBuf,
    /// Makes the calls of this name and counts nothing: what valgrind is given to run.
    #[arg(long, requires = "calls")]
    run: Option<Session>,
    /// Number of calls of the session.
    #[arg(long)]
    calls: Option<usize>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match (cli.run, cli.calls) {
        (Some(session), Some(calls)) => run(session, calls),
        _ => compare(&cli),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(session: Session, calls: usize) -> anyhow::Result<()> {
    // By the clock, valgrind makes slow methods of quick ones, and those have separate tasks.
    let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(session.run(calls))
}

fn compare(cli: &Cli) -> anyhow::Result<()> {
    if !is_installed() {
        println!("instructions are not counted: there is no valgrind");
        return Ok(());
    }
    let sessions = if cli.sessions.is_empty() { Session::ALL } else { &cli.sessions };
    let made_by = made_by()?;
    let before = if cli.update {
        None
    } else {
        let text = fs::read_to_string(&cli.file);
        let text = text.with_context(|| format!("{}, which `--update` writes", cli.file.display()))?;
        Some(read(&text, &made_by)?)
    };
    let (mut counted, mut over) = (Kept::new(), Vec::new());
    for session in sessions {
        let counts = |calls: usize| count(&["--run", session.name, "--calls", &calls.to_string()]);
        let counts = counts(MANY_CALLS)?.over(&counts(FEW_CALLS)?, (MANY_CALLS - FEW_CALLS) as f64);
        println!("{session}: {} instructions and {} allocations a call", counts.total, counts.allocations);
        over.extend(session.budget.and_then(|budget| over_budget(session.name, budget, &counts)));
        counted.insert(session.name.to_owned(), counts);
    }
    let Some((before, same_maker)) = before else {
        ensure!(over.is_empty(), "nothing is kept: {}", over.join("; "));
        fs::write(&cli.file, written(&counted, &made_by)).context("keeping the counts")?;
        println!("kept in {}", cli.file.display());
        return Ok(());
    };
    let mut too_large = over.len();
    for message in over {
        println!("\n{message}");
    }
    for (name, now) in &counted {
        let Some(before) = before.get(name) else {
            bail!("nothing is kept of {name} in {}: `--update` keeps it", cli.file.display());
        };
        if let Some(message) = growth(name, before, now) {
            too_large += 1;
            println!("\n{message}");
        } else if now.total < before.total * (1.0 - TOLERANCE / 100.0) {
            println!("\n{name} fell: {} instructions a call to {}", before.total, now.total);
            println!("  `--update` keeps it from growing back");
        }
    }
    if too_large > 0 && !same_maker {
        println!(
            "\n{too_large} counts are too large, which may be the other compiler's or processor's doing"
        );
        return Ok(());
    }
    ensure!(
        too_large == 0,
        "{too_large} counts are too large; if growth is worth it, `--update` keeps it up to the budget"
    );
    println!("\nnothing grew by more than {TOLERANCE}%");
    Ok(())
}

/// The compiler, the processor, for which copying is done in its own way, and the profile: what counts
/// depend on.
fn made_by() -> anyhow::Result<String> {
    // It is at `target/release/farcall-instructions`.
    let program = std::env::current_exe()?;
    let profile = program.ancestors().nth(1).and_then(|directory| directory.file_name()).unwrap_or_default();
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processor = model.map_or(std::env::consts::ARCH, |(_, model)| model.trim());
    Ok(format!("{}, {processor}, profile {}", env!("COMPILER"), profile.to_string_lossy()))
}
