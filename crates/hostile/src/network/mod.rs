//! A bad network, for real: loss, cuts, hosts that vanish or freeze, and names that change, in network namespaces, with
//! clients that call meanwhile.
//!
//! - [`sandbox`] gives this program its namespaces, which the kernel removes with it, however it ends;
//! - [`host`] is a host with a server in a namespace of that host, [`firewall`] drops packets, [`names`] answers for names;
//! - [`traffic`] makes the calls and records what became of them, [`server`] answers them;
//! - [`fault`] lists the faults, [`mod@trial`] is one of them from start to end, [`judgement`] what held, [`report`] the table.

mod clock_lag;
mod fault;
mod firewall;
mod host;
mod judgement;
mod ledger;
mod names;
mod report;
mod sandbox;
mod server;
mod traffic;
mod trial;

use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use self::fault::Fault;
use self::names::Names;
use self::report::{Row, table};
pub(crate) use self::server::serve;
use self::trial::trial;
use crate::cli::NetworkArgs;

/// The number of trials of a fault while the machine is too busy to tell.
const MAX_TRIES: u32 = 3;

/// Tries all faults that were asked for; returns `true` if all verdicts are clean.
pub(crate) fn run(args: &NetworkArgs) -> anyhow::Result<bool> {
    let chosen = chosen(args)?;
    if args.list {
        for fault in chosen {
            println!("{:26} {}", fault.name(), fault.summary());
        }
        return Ok(true);
    }
    if let Some(directory) = &args.inside {
        return run_inside(args, directory, &chosen);
    }
    let access = match sandbox::access() {
        Ok(access) => access,
        Err(missing) => bail!("no bad network here: {missing}"),
    };
    if args.check {
        println!("ready");
        return Ok(true);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(sandbox::run_this_program(access))
}

/// Tries the faults, as the first process of the namespaces.
fn run_inside(args: &NetworkArgs, directory: &Path, chosen: &[Fault]) -> anyhow::Result<bool> {
    sandbox::enter(directory)?;
    let names = Names::set_up(directory)?;
    firewall::set_up_bridge()?;
    let mut rows = Vec::new();
    for (number, fault) in chosen.iter().enumerate() {
        eprint!("{}/{} {} ... ", number + 1, chosen.len(), fault.name());
        let row = row(*fault, args, &names);
        eprintln!("{}", row.verdict());
        rows.push(row);
        // After each, so that a run that is stopped leaves what it has.
        if let Some(file) = &args.json {
            std::fs::write(file, serde_json::to_string_pretty(&rows)?)
                .with_context(|| format!("writing {}", file.display()))?;
        }
    }
    println!("{}", table(&rows));
    let clean = rows.iter().filter(|row| row.verdict() == "clean").count();
    println!("{clean} of {} clean", rows.len());
    Ok(clean == rows.len())
}

/// Makes a trial of a fault; another one if the machine was too busy for it.
fn row(fault: Fault, args: &NetworkArgs, names: &Names) -> Row {
    let mut tries = 0;
    loop {
        tries += 1;
        // A runtime for each, so that nothing of a trial is left in the next.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let outcome = runtime
            .context("starting a runtime")
            .and_then(|runtime| runtime.block_on(trial(fault, args.quick, names)));
        let row = Row::new(fault, outcome);
        if tries == MAX_TRIES || !row.is_busy() {
            return row;
        }
        eprint!("{}, again ... ", row.verdict());
    }
}

fn chosen(args: &NetworkArgs) -> anyhow::Result<Vec<Fault>> {
    for name in &args.only {
        ensure!(
            Fault::ALL.iter().any(|fault| fault.name() == name),
            "there is no fault `{name}`: --list shows all"
        );
    }
    let is_chosen = |fault: &Fault| {
        if args.only.is_empty() {
            !args.quick || fault.is_quick()
        } else {
            args.only.iter().any(|name| name == fault.name())
        }
    };
    Ok(Fault::ALL.into_iter().filter(is_chosen).collect())
}
