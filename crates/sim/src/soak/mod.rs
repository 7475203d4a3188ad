//! The project's own scenario: calls and streams of all kinds under all faults at once, and what must hold of them.
//!
//! What is checked, with a log of what handlers really did as the truth:
//!
//! - Each call ends once, within its deadline, with the answer that is its own.
//! - What is reported as not sent or refused was not executed, then or later; what is not idempotent, at most once.
//! - An idempotent call with time enough succeeds while one server is up that can be reached, if its request arrives while a
//!   connection lasts.
//! - A call of a method that is declared `once` is executed at most once, also over restarts.
//! - Retries stay within the budget of their channel.
//! - A stream ends as exactly one of complete, failed and cancelled. Items come in order, each once, also if the stream
//!   was resumed; and one that was let go of is never complete.
//! - The registry, and each client's list, come to have the servers that run, and no others.
//! - A call that a handler makes ends with its caller's.
//! - At rest nothing is left: no call, also none that goes on without its caller, no stream, connection, byte in a buffer, handler or task.
//!
//! `cargo run --release -p farcall-sim -- --seeds 100000` runs it.

mod caller;
mod calls;
mod faults;
mod once;
mod plan;
mod record;
mod rest;
mod streams;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use farcall::client::RetryBudget;
use farcall::discovery::{Endpoint, StaticList};
use farcall::{Address, Server};
use farcall_registry::server::RegistryOptions;
use fastrand::Rng;
use tokio::time::timeout;

use self::caller::Caller;
use self::calls::call_on;
use self::faults::{Targets, disturb};
use self::plan::{Plan, TTL};
use self::record::Record;
use self::work::{Ledger, Work, Worker};
use crate::cluster::Cluster;
use crate::node::{Node, SERVER_PORT};
use crate::registry::SimRegistry;
use crate::server::SimServer;
use crate::sim::Sim;

/// The text of the panics that handlers make on purpose, for panic hooks that leave them out.
pub const PANIC: &str = work::PANIC;

/// The longest time limit of a call, and more.
const CALLS_END: Duration = Duration::from_secs(150);

/// The outcome of one seed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The numbers of calls of each kind, of outcomes and of faults, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// The promises that did not hold; empty if all did.
    pub findings: Vec<String>,
    /// The trace.
    pub trace: String,
}

/// Makes calls of a method that is declared `once`, while connections are cut and reset: each is carried out once, and each
/// caller has its answer.
///
/// # Panics
///
/// A task panicked that is no handler, or the scenario did not end.
#[must_use]
pub fn run_once(seed: u64, calls: u64) -> Outcome {
    let limit = Duration::from_secs(24 * 3600);
    let ((counts, findings), trace) =
        Sim::seed(seed).limit(limit).trace(async |cluster| once::scenario(cluster, calls).await);
    Outcome { counts, findings, trace }
}

/// Runs the scenario with a seed.
///
/// # Panics
///
/// A task panicked that is no handler, or the scenario did not end.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    let ((counts, findings), trace) = Sim::seed(seed).limit(Duration::from_secs(3600)).trace(scenario);
    Outcome { counts, findings, trace }
}

async fn scenario(cluster: Cluster) -> (BTreeMap<&'static str, u64>, Vec<String>) {
    let mut random = cluster.random();
    let plan = Plan::draw(&mut random);
    cluster.note(format!("{plan:?}"));
    cluster.links(plan.link.clone());
    let record = Record::new(Ledger::default(), cluster.clone());
    let registry = start_registry(&cluster, &plan).await;
    let servers = start_servers(&cluster, &plan, record.ledger(), registry.as_ref());
    let callers: Vec<_> = (0..plan.clients)
        .map(|number| caller(number, &cluster, &plan, &servers, registry.as_ref(), &record, &mut random))
        .collect();
    for caller in &callers {
        caller.node.spawn(call_on(caller.clone(), plan.call_pause_ms, random.fork()));
    }

    let targets = targets(&cluster, &plan, &servers, registry.clone(), &record);
    // It is given up in the middle of a fault, as faults are.
    let _ = timeout(plan.time, disturb(&targets, plan.fault_pause_ms, &mut random)).await;
    targets.restore().await;
    callers.iter().for_each(|caller| caller.stop_calling());
    rest::until(CALLS_END, || record.open().is_empty()).await;
    for open in record.open() {
        record.find(format!("it has not ended: {open}"));
    }
    rest::check(&cluster, &plan, servers, callers, registry, &record).await;
    (record.counts(), record.findings())
}

async fn start_registry(cluster: &Cluster, plan: &Plan) -> Option<SimRegistry> {
    if !plan.has_registry {
        return None;
    }
    let options = RegistryOptions::default().ttl(TTL).heartbeat(TTL / 3);
    Some(cluster.registry("registry", options).await.expect("the options are valid"))
}

fn start_servers(
    cluster: &Cluster,
    plan: &Plan,
    ledger: &Ledger,
    registry: Option<&SimRegistry>,
) -> Vec<SimServer> {
    let name = |number| format!("server{number}");
    let addresses: Vec<_> = (0..plan.servers).map(|number| address_of(&name(number))).collect();
    let start = |number| {
        let addresses = addresses.clone();
        let (ledger, limits, registry) = (ledger.clone(), plan.limits.clone(), registry.cloned());
        let describe = move |node: &Node| {
            let (ledger, node_of) = (ledger.clone(), node.clone());
            let worker = Worker { ledger, node: node_of, servers: addresses.clone() };
            let server = Server::builder().service(worker.into_service());
            let server = server.limits(limits.clone());
            match &registry {
                Some(registry) => server.register_with(registry.registrar(node)),
                None => server,
            }
        };
        cluster.server(&name(number), describe).expect("the description is valid")
    };
    (0..plan.servers).map(start).collect()
}

/// Returns the address of a server's node.
fn address_of(name: &str) -> Address {
    Address::parse(&format!("tcp@{name}:{SERVER_PORT}")).expect("the name of a node is that of a host")
}

fn caller(
    number: usize,
    cluster: &Cluster,
    plan: &Plan,
    servers: &[SimServer],
    registry: Option<&SimRegistry>,
    record: &Record,
    random: &mut Rng,
) -> Caller {
    let node = cluster.node(&format!("client{number}"));
    let builder = plan.channel(node.channel_with(plan.options(random)), random);
    let builder = match registry {
        Some(registry) => builder.discover(registry.discovery(&node, "Work")),
        None => {
            let endpoints = servers.iter().map(|server| Endpoint::new(server.node().address()));
            builder.discover(StaticList::of(endpoints.collect::<Vec<_>>()))
        }
    };
    let is_spared = plan.is_spared && number == 0 && registry.is_none();
    let builder = if is_spared { builder.retry_budget(RetryBudget::unlimited()) } else { builder };
    let (record, channel) = (record.clone(), builder.build().expect("the settings are valid"));
    Caller {
        number,
        node,
        channel,
        record,
        is_spared,
        connections_age: plan.connections_age,
        servers: plan.servers as u32,
        has_stopped: Arc::default(),
    }
}

fn targets(
    cluster: &Cluster,
    plan: &Plan,
    servers: &[SimServer],
    registry: Option<SimRegistry>,
    record: &Record,
) -> Targets {
    let spared = usize::from(plan.is_spared);
    let mut nodes = Vec::new();
    for number in 0..plan.servers.max(plan.clients) {
        let of = |kind: &str, count| (number < count).then(|| format!("{kind}{number}"));
        nodes.extend(of("server", plan.servers));
        nodes.extend(of("client", plan.clients));
    }
    // What is spared must also be found.
    nodes.extend(registry.as_ref().map(|registry| registry.node().name().to_owned()));
    let servers = servers[spared..].to_vec();
    Targets { cluster: cluster.clone(), servers, nodes, spared: 2 * spared, registry, record: record.clone() }
}
