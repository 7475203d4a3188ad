//! The tables.

use std::time::Duration;

use farcall_discovery::{
    Balancer, ConsistentHash, LeastLoaded, PeakEwma, Random, ReportedLoad, RoundRobin, WeightedRoundRobin,
    ZoneFirst,
};

use crate::run::{Reports, Scenario, Server, run};
use crate::{keys, subsets, zones};

const CALLS: usize = 20_000;
const QUICK: Duration = Duration::from_millis(10);
const SLOW: Duration = Duration::from_millis(100);

/// Returns all tables, each with a heading line.
pub(crate) fn all() -> Vec<String> {
    vec![
        balancers("One slow server of five, at 70% of their total capacity", &one_slow(0.7)),
        balancers("One slow server of five, at 10%", &one_slow(0.1)),
        balancers("Weights 1 to 5, at 70%", &weighted()),
        reported_load(),
        moved_keys(),
        zones(),
        spread(),
        churn(),
    ]
}

fn one_slow(load: f64) -> Scenario {
    let server = |index| Server { weight: 100, workers: 8, takes: if index == 0 { SLOW } else { QUICK } };
    scenario((0..5).map(server).collect(), load)
}

fn weighted() -> Scenario {
    let server = |weight: u16| Server { weight, workers: 2 * u32::from(weight), takes: QUICK };
    scenario((1..=5).map(server).collect(), 0.7)
}

/// One client, and servers that do not report their load.
fn scenario(servers: Vec<Server>, load: f64) -> Scenario {
    Scenario { servers, load, calls: CALLS, clients: 1, reports: Reports::None }
}

/// Many clients that make few calls each, and a server at half speed.
fn reported_load() -> String {
    const HALF: Duration = Duration::from_millis(20);
    let server = |index| Server { weight: 100, workers: 8, takes: if index == 0 { HALF } else { QUICK } };
    let run_with = |reports, balancer: &dyn Balancer| {
        let scenario = scenario((0..5).map(server).collect(), 0.85);
        run(&Scenario { calls: 3 * CALLS, clients: 100, reports, ..scenario }, balancer)
    };
    let reported = ReportedLoad::default().blackout(Duration::from_secs(1));
    let all: [(&str, Reports, Box<dyn Balancer>); 6] = [
        ("`Random`", Reports::None, Box::new(Random)),
        ("`WeightedRoundRobin`", Reports::None, Box::new(WeightedRoundRobin)),
        ("`LeastLoaded`", Reports::None, Box::new(LeastLoaded)),
        ("`PeakEwma`", Reports::None, Box::new(PeakEwma)),
        ("`ReportedLoad`, of calls", Reports::Calls, Box::new(reported)),
        ("`ReportedLoad`, of utilization", Reports::Utilization, Box::new(reported)),
    ];
    let header = ["", "half speed", "the others, each", "p50", "p90", "p99", "max"].map(String::from);
    let row = |(name, reports, balancer): &(&str, Reports, Box<dyn Balancer>)| {
        let outcome = run_with(*reports, &**balancer);
        let others = outcome.shares[1..].iter().sum::<f64>() / 4.0;
        let shares = [outcome.shares[0], others].map(percent);
        let latencies = [0.5, 0.9, 0.99, 1.0].map(|part| milliseconds(outcome.percentile(part)));
        [(*name).to_owned()].into_iter().chain(shares).chain(latencies).collect()
    };
    let title = "One of five servers at half speed, 100 clients, at 85% of the total capacity";
    table(title, &header, all.iter().map(row))
}

fn balancers(title: &str, scenario: &Scenario) -> String {
    let all: [(&str, Box<dyn Balancer>); 8] = [
        ("`Random`", Box::new(Random)),
        ("`RoundRobin`", Box::new(RoundRobin)),
        ("`WeightedRoundRobin`", Box::new(WeightedRoundRobin)),
        ("`LeastLoaded`", Box::new(LeastLoaded)),
        ("`PeakEwma`", Box::new(PeakEwma)),
        ("`ConsistentHash`", Box::new(ConsistentHash::by_key())),
        ("`ConsistentHash`, unbounded", Box::new(ConsistentHash::by_key().unbounded())),
        ("`ZoneFirst` of `LeastLoaded`", Box::new(ZoneFirst::new("here", LeastLoaded))),
    ];
    let servers = scenario.servers.iter().enumerate().map(|(index, server)| match server.takes {
        SLOW => "slow".to_owned(),
        _ if server.weight < 100 => format!("weight {}", server.weight),
        _ => format!("server {}", index + 1),
    });
    let header =
        ["".to_owned()].into_iter().chain(servers).chain(["p50", "p90", "p99", "max"].map(Into::into));
    let row = |(name, balancer): &(&str, Box<dyn Balancer>)| {
        let outcome = run(scenario, &**balancer);
        let shares = outcome.shares.iter().copied().map(percent);
        let latencies = [0.5, 0.9, 0.99, 1.0].map(|part| milliseconds(outcome.percentile(part)));
        [(*name).to_owned()].into_iter().chain(shares).chain(latencies).collect()
    };
    table(title, &header.collect::<Vec<_>>(), all.iter().map(row))
}

fn moved_keys() -> String {
    let header = ["endpoints", "keys that move", "1/n", "moved needlessly", "with hash modulo n", "fullest"];
    let row = |n: &usize| {
        let moved = keys::moved(*n);
        vec![
            format!("{} ↔ {n}", n - 1),
            percent(moved.keys),
            percent(1.0 / *n as f64),
            percent(moved.needlessly),
            percent(moved.modulo),
            format!("{:.2} × mean", moved.fullest),
        ]
    };
    let header = header.map(String::from);
    table(
        "Keys that move when the last of n endpoints joins or leaves",
        &header,
        [5, 10, 100].iter().map(row),
    )
}

fn zones() -> String {
    let header = ["usable in the client's zone".to_owned(), "calls that stay".to_owned()];
    let row = |usable| vec![format!("{usable} of {}", zones::EACH), percent(zones::kept(usable))];
    let title = "Calls that `ZoneFirst` keeps in a zone of five endpoints; another zone has five, too";
    table(title, &header, (0..=zones::EACH).rev().map(row))
}

fn spread() -> String {
    let header = [
        "subset",
        "connections",
        "fewest of a server",
        "a tenth have fewer",
        "median",
        "a tenth have more",
        "most",
    ];
    let row = |size: usize| {
        let subsets::Spread { connections } = subsets::spread(size);
        let at = |part: f64| connections[(part * (connections.len() - 1) as f64).round() as usize];
        let all = connections.iter().sum();
        let name = if size < subsets::FLEET { format!("`Subset::of({size})`") } else { "none".to_owned() };
        let of_servers = [0.0, 0.1, 0.5, 0.9, 1.0].map(|part| at(part).to_string());
        [name, thousands(all)].into_iter().chain(of_servers).collect()
    };
    let title = "Connections of 1,000 clients to 1,000 servers";
    table(title, &header.map(String::from), [subsets::FLEET, 20].into_iter().map(row))
}

fn churn() -> String {
    let header = ["", "clients that change members", "members that a client changes", "at most"];
    let row = |(name, churn): (&str, subsets::Churn)| {
        let subsets::Churn { clients, most, mean } = churn;
        vec![name.to_owned(), percent(clients), format!("{mean:.2}"), most.to_string()]
    };
    let changes = [
        ("one server of 1,000 leaves", subsets::leaves(20)),
        ("all servers restart, 50 at a time", subsets::restart(20)),
    ];
    let title = "Members that clients with `Subset::of(20)` change";
    table(title, &header.map(String::from), changes.into_iter().map(row))
}

fn thousands(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", thousands(number / 1_000), number % 1_000),
    }
}

fn percent(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

fn milliseconds(latency: f64) -> String {
    if latency < 100.0 { format!("{latency:.1} ms") } else { format!("{latency:.0} ms") }
}

/// A table in Markdown: the first column is text, the others are numbers.
fn table(title: &str, header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let ruler = format!("| --- |{}\n", " ---: |".repeat(header.len() - 1));
    let rows: String = rows.map(|row| line(&row)).collect();
    format!("{title}:\n\n{}{ruler}{rows}", line(header))
}
