//! `farcall registry watch`: a line for each change of a service's instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use farcall::discovery::{AdvertisedState, Discovery, Endpoint, publisher};

use crate::environment::interrupted;
use crate::failure::Failure;
use crate::output::escape::word;
use crate::output::{Format, print};
use crate::targets::args::TargetArgs;
use crate::targets::registry::not_a_registry;
use crate::targets::settings::Settings;
use crate::value::Value;

/// The arguments of the command.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Service to watch.
    #[arg(value_name = "SERVICE")]
    name: String,
    /// Format of the changes; json means ndjson.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

pub(super) async fn run(args: WatchArgs) -> Result<(), Failure> {
    let settings = Settings::resolve(&args.target)?;
    if !settings.is_registry() {
        return Err(not_a_registry());
    }
    follow(settings.source(&args.name)?, args.output).await
}

/// Prints the changes until Ctrl-C.
async fn follow(discovery: impl Discovery, format: Format) -> Result<(), Failure> {
    let (publisher, mut list) = publisher();
    let running = discovery.run(publisher);
    let printing = async {
        let mut known = BTreeMap::new();
        let mut failing = None;
        while list.changed().await.is_ok() {
            let now = list.borrow_and_update().clone();
            if now.failing != failing {
                failing = now.failing.clone();
                if let Some(failing) = &failing {
                    eprintln!("warning: {}", word(&failing.reason));
                }
            }
            let found: BTreeMap<_, _> = now
                .endpoints
                .iter()
                .map(|endpoint| (endpoint.address.to_string(), endpoint.clone()))
                .collect();
            for line in changes(&known, &found, format) {
                print(&line)?;
            }
            known = found;
        }
        Ok(())
    };
    tokio::select! {
        // A discovery runs until it is dropped.
        _ = running => Ok(()),
        outcome = printing => outcome,
        () = interrupted() => Ok(()),
    }
}

/// Returns a line for each difference.
fn changes(
    known: &BTreeMap<String, Arc<Endpoint>>,
    found: &BTreeMap<String, Arc<Endpoint>>,
    format: Format,
) -> Vec<String> {
    let gone = known.iter().filter(|(address, _)| !found.contains_key(*address)).map(|one| ("gone", one));
    let new = found.iter().filter_map(|(address, endpoint)| match known.get(address) {
        None => Some(("new", (address, endpoint))),
        Some(before) => (before != endpoint).then_some(("changed", (address, endpoint))),
    });
    gone.chain(new).map(|(change, (address, endpoint))| line(change, address, endpoint, format)).collect()
}

fn line(change: &str, address: &str, endpoint: &Endpoint, format: Format) -> String {
    let state = match endpoint.state {
        AdvertisedState::Up => "up",
        AdvertisedState::Draining => "draining",
        AdvertisedState::Stale => "stale",
    };
    match format {
        Format::Table => format!("{change:<8} {address} {state} weight {}\n", endpoint.weight),
        _ => Format::Ndjson.text(&Value::object([
            ("change", Value::text(change)),
            ("address", Value::text(address)),
            ("state", Value::text(state)),
            ("weight", Value::from(u64::from(endpoint.weight))),
        ])),
    }
}
