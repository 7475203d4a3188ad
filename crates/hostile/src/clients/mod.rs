//! Clients of a hostile server, in Rust, Python and JavaScript: for each [`Trick`] of the server, each client makes calls in
//! a child process. Every call must end in time, with an answer or an error of farcall; the client must live, stay
//! small, and not connect without pause.

mod caller;
mod report;
mod server;
mod trial;
mod trick;

use anyhow::ensure;

pub(crate) use self::caller::call_for_a_while;
use self::report::{Row, table};
use self::trial::{Language, trial};
use self::trick::Trick;
use crate::cli::ClientsArgs;

/// Tries all tricks that were asked for on all clients; returns `true` if all verdicts are clean.
pub(crate) fn run(args: &ClientsArgs) -> anyhow::Result<bool> {
    let tricks: Vec<Trick> = Trick::ALL
        .into_iter()
        .filter(|trick| args.only.is_empty() || args.only.iter().any(|name| name == trick.name()))
        .collect();
    ensure!(!tricks.is_empty(), "there is no such trick: --list shows all");
    if args.list {
        for trick in tricks {
            println!("{:28} {}", trick.name(), trick.summary());
        }
        return Ok(true);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut rows = Vec::new();
    for language in Language::ALL {
        if !args.client.is_empty() && !args.client.iter().any(|name| name == language.name()) {
            continue;
        }
        for trick in &tricks {
            eprint!("{} {} ... ", language.name(), trick.name());
            let outcome = runtime.block_on(trial(language, *trick, args));
            let row = Row::new(language, *trick, outcome);
            eprintln!("{}", row.verdict);
            rows.push(row);
            if let Some(file) = &args.json {
                std::fs::write(file, serde_json::to_string_pretty(&rows)?)?;
            }
        }
    }
    println!("{}", table(&rows));
    let clean = rows.iter().filter(|row| row.verdict == "clean").count();
    println!("{clean} of {} clean", rows.len());
    Ok(clean == rows.len())
}
