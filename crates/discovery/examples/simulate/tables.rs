//! The tables.

use std::time::Duration;

use farcall_discovery::{
    Balancer, ConsistentHash, LeastLoaded, PeakEwma, Random, RoundRobin, WeightedRoundRobin, ZoneFirst,
};

use crate::run::{Scenario, Server, run};
use crate::{keys, zones};

const CALLS: usize = 20_000;
const QUICK: Duration = Duration::from_millis(10);
const SLOW: Duration = Duration::from_millis(100);

/// Returns all tables, each with a heading line.
pub(crate) fn all() -> Vec<String> {
    vec![
        balancers("One slow server of five, at 70% of their total capacity", &one_slow(0.7)),
        balancers("One slow server of five, at 10%", &one_slow(0.1)),
        balancers("Weights 1 to 5, at 70%", &weighted()),
        moved_keys(),
        zones(),
    ]
}

fn one_slow(load: f64) -> Scenario {
    let server = |index| Server { weight: 100, workers: 8, takes: if index == 0 { SLOW } else { QUICK } };
    Scenario { servers: (0..5).map(server).collect(), load, calls: CALLS }
}

fn weighted() -> Scenario {
    let server = |weight: u16| Server { weight, workers: 2 * u32::from(weight), takes: QUICK };
    Scenario { servers: (1..=5).map(server).collect(), load: 0.7, calls: CALLS }
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
