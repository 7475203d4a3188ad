//! The promises that are checked at rest, when all calls have ended.

use std::time::Duration;

use farcall::server::ServerHandle;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::caller::Caller;
use super::plan::{Plan, TTL};
use super::record::Record;
use crate::cluster::Cluster;
use crate::registry::SimRegistry;
use crate::server::SimServer;

/// The time after which the lists are right again: instances expire late if many do at once.
const LISTS_SETTLE: Duration = Duration::from_secs(3 * TTL.as_secs() + 60);

/// The time for connections to close, and for tasks to end. Idle memory and probes take some seconds.
const TASKS_END: Duration = Duration::from_secs(120);

/// The interval between looks at what is to come.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn check(
    cluster: &Cluster,
    plan: &Plan,
    servers: Vec<SimServer>,
    callers: Vec<Caller>,
    registry: Option<SimRegistry>,
    record: &Record,
) {
    let repeats = record.settle();
    for caller in callers.iter().filter(|caller| !caller.is_spared) {
        check_budget(plan, caller, repeats.get(&caller.number).copied().unwrap_or_default(), record);
    }
    let registry = registry.as_ref();
    until(LISTS_SETTLE, || wrong_lists(&servers, &callers, registry).is_none()).await;
    if let Some(wrong) = wrong_lists(&servers, &callers, registry) {
        record.find(wrong);
    }
    let handles: Vec<_> = servers.iter().map(SimServer::handle).collect();
    let is_idle = || handles.iter().all(|handle| in_flight(handle) == (0, 0, 0));
    until(TASKS_END, || record.ledger().running().is_empty() && is_idle()).await;
    for id in record.ledger().running() {
        record.find(format!("call {id}: a handler still runs ({:?})", record.ledger().entry(id)));
    }
    if !is_idle() {
        let left: Vec<_> = handles.iter().map(in_flight).collect();
        record.find(format!(
            "the servers have these calls, calls without callers, and streams in flight: {left:?}"
        ));
    }
    callers.iter().for_each(|caller| check_channel(caller, record));
    drop(callers);

    let held =
        || handles.iter().map(|handle| (handle.connections(), handle.buffered_bytes())).collect::<Vec<_>>();
    let is_free = || held().iter().all(|held| *held == (0, 0));
    until(TASKS_END, is_free).await;
    if !is_free() {
        record.find(format!("the servers have these connections, and bytes for them: {:?}", held()));
    }
    for server in &servers {
        server.stop().await;
    }
    drop(servers);
    if let Some(registry) = registry {
        let counts = || registry.registry().counts();
        until(TASKS_END, || (counts().watchers, counts().up) == (0, 0)).await;
        if (counts().watchers, counts().up) != (0, 0) {
            record.find(format!("the registry has watchers, or servers that have stopped: {:?}", counts()));
        }
        registry.kill();
    }
    let tasks = || Handle::current().metrics().num_alive_tasks();
    until(TASKS_END, || (tasks(), cluster.connections()) == (0, 0)).await;
    if (tasks(), cluster.connections()) != (0, 0) {
        record.find(format!("{} tasks and {} connections are left", tasks(), cluster.connections()));
    }
}

/// Returns the numbers of calls in flight at a server, of those that are carried out once, and of open streams.
fn in_flight(handle: &ServerHandle) -> (usize, usize, usize) {
    let streams = usize::try_from(handle.stream_metrics().open).unwrap_or(usize::MAX);
    (handle.in_flight(), handle.once_in_flight(), streams)
}

/// Waits until something holds, for some time.
pub(super) async fn until(limit: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() && Instant::now() < end {
        sleep(LOOK_INTERVAL).await;
    }
}

/// Checks that calls were not repeated more often than the budget of their channel allows.
fn check_budget(plan: &Plan, caller: &Caller, repeats: u64, record: &Record) {
    let metrics = caller.channel.metrics();
    // Of the time of the soak, with the ten seconds that a budget has from its begin, and the calls' own time.
    let seconds = plan.time.as_secs_f64() + 10.0 + 150.0;
    let allowed = plan.budget.share * metrics.calls as f64 + plan.budget.floor * seconds;
    if repeats as f64 > allowed + 1.0 {
        let calls = metrics.calls;
        record.find(format!("client {}: {repeats} retries of {calls} calls, of {allowed}", caller.number));
    }
}

/// Returns what is wrong with the lists of the registry and of the clients.
fn wrong_lists(servers: &[SimServer], callers: &[Caller], registry: Option<&SimRegistry>) -> Option<String> {
    let sorted = |mut addresses: Vec<String>| {
        addresses.sort_unstable();
        addresses
    };
    let running = sorted(servers.iter().map(|server| server.node().address().to_string()).collect());
    let listed = registry?.registry().list("Work");
    let listed = sorted(listed.iter().map(|instance| instance.instance.addr.to_string()).collect());
    if listed != running {
        return Some(format!("the registry has {listed:?}, and there are {running:?}"));
    }
    // A channel without calls has not looked yet.
    callers.iter().filter(|caller| caller.channel.metrics().calls > 0).find_map(|caller| {
        let known = caller.channel.overview().endpoints;
        let known = sorted(known.into_iter().map(|endpoint| endpoint.address).collect());
        let number = caller.number;
        (known != running).then(|| format!("client {number} knows {known:?}, and there are {running:?}"))
    })
}

fn check_channel(caller: &Caller, record: &Record) {
    let metrics = caller.channel.metrics();
    let overview = caller.channel.overview();
    let streams = overview.streams.len();
    if (metrics.in_flight, overview.in_flight, streams) != (0, 0, 0) {
        let in_flight = metrics.in_flight;
        record
            .find(format!("client {} has {in_flight} calls and {streams} streams in flight", caller.number));
    }
}
