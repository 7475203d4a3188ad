//! Calls that are carried out once, under cuts and resets that never last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::client::{RetryBudget, RetryPolicy};
use farcall::server::OnceOptions;
use farcall::{CallError, Server};
use fastrand::Rng;
use futures::future::{join_all, select};
use tokio::time::sleep;

use super::record::Record;
use super::rest;
use super::work::{Act, Job, Ledger, Work, WorkClient, Worker};
use crate::cluster::Cluster;
use crate::network::Link;
use crate::node::Node;

const SERVERS: [&str; 2] = ["server0", "server1"];
const CLIENTS: usize = 4;
/// The calls that a client makes at the same time.
const CALLS_AT_ONCE: usize = 16;

/// Makes this many calls. Two servers have a store each, so that a call that may have begun is repeated at its server.
pub(super) async fn scenario(cluster: Cluster, calls: u64) -> (BTreeMap<&'static str, u64>, Vec<String>) {
    cluster.links(Link::default().latency(Duration::ZERO, Duration::from_millis(5)));
    let record = Record::new(Ledger::default(), cluster.clone());
    let servers = SERVERS.map(|name| {
        let ledger = record.ledger().clone();
        let describe = move |node: &Node| {
            let worker = Worker { ledger: ledger.clone(), node: node.clone(), servers: Vec::new() };
            // Enough for all of them.
            let options = OnceOptions::default().max_bytes(1 << 30);
            Server::builder().service(worker.into_service()).once_options(options)
        };
        cluster.server(name, describe).expect("the description is valid")
    });
    let mut random = cluster.random();
    let left = Arc::new(AtomicU64::new(calls));
    let mut channels = Vec::new();
    let callers = (0..CLIENTS).flat_map(|number| {
        let channel = cluster.node(&format!("client{number}")).channel_builder();
        let channel = servers.iter().fold(channel, |channel, server| channel.to(server.node().address()));
        let channel = channel.retry_budget(RetryBudget::unlimited()).build().expect("the settings are valid");
        channels.push(channel.clone());
        let (record, left, seed) = (&record, &left, random.u64(..));
        (0..CALLS_AT_ONCE).map(move |n| {
            let random = Rng::with_seed(seed ^ n as u64);
            pay_on(number, WorkClient::new(channel.clone()), record.clone(), Arc::clone(left), random)
        })
    });
    let callers: Vec<_> = callers.collect();
    let disturbed = Box::pin(disturb(&cluster, &record, random.fork()));
    select(Box::pin(join_all(callers)), disturbed).await;
    for (id, begun) in record.ledger().begun() {
        if begun != 1 {
            record.find(format!("call {id} was carried out {begun} times"));
        }
    }
    let is_idle = || servers.iter().all(|server| server.handle().once_in_flight() == 0);
    rest::until(Duration::from_secs(10), is_idle).await;
    if !is_idle() {
        record.find("calls are left that go on without their callers".to_owned());
    }
    let retries = channels.iter().map(|channel| channel.metrics().retries).sum();
    let mut counts = record.counts();
    counts.insert("retries", retries);
    (counts, record.findings())
}

/// Makes one call after the other, while any are left.
async fn pay_on(number: usize, work: WorkClient, record: Record, left: Arc<AtomicU64>, mut random: Rng) {
    let next = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    while next().is_ok() {
        let open = record.begin("paid", number, 1);
        let act = match random.u8(..8) {
            0 => Act::Late(random.u64(..2000)),
            1 => Act::Fail,
            _ => Act::Late(random.u64(..20)),
        };
        let call = work.pay(Job { id: open.id, act, load: String::new() });
        let call = call.retry(RetryPolicy::fail_over().max_attempts(100)).wait_for_ready(true);
        match call.await {
            Ok(done) => open.succeeded(done.id),
            Err(CallError::Application(failed)) if act == Act::Fail => open.succeeded(failed.0),
            Err(error) => open.find(format_args!("it has no answer: {error}")),
        }
    }
}

/// Cuts and resets connections, one after the other, for less time than a call is repeated.
async fn disturb(cluster: &Cluster, record: &Record, mut random: Rng) {
    loop {
        sleep(Duration::from_millis(random.u64(..40))).await;
        let (client, server) = (format!("client{}", random.usize(..CLIENTS)), SERVERS[random.usize(..2)]);
        match random.u8(..8) {
            0 => {
                record.count("cuts");
                let (from, to) = if random.bool() { (&*client, server) } else { (server, &*client) };
                cluster.cut(from, to);
                sleep(Duration::from_millis(random.u64(..3000))).await;
                cluster.heal();
            }
            1 => {
                record.count("partitions that outlast keep-alive");
                cluster.partition(&[&client], &[server]);
                // Virtual time, longer than it takes until a silent connection is given up.
                sleep(Duration::from_secs(20)).await;
                cluster.heal();
            }
            _ => {
                record.count("resets");
                cluster.reset(&client, server);
            }
        }
    }
}
