//! One run: calls arrive at a client, its balancer sends them to servers, and servers work them off.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::{Balancer, Candidate, Candidates, Endpoint, LoadReports, PickRequest};
use farcall_protocol::LoadReport;
use farcall_transport::Address;

/// A server that works at a number of calls at once, for an exponentially distributed time each. Others
/// wait in the order of their arrival.
#[derive(Clone, Copy)]
pub(crate) struct Server {
    pub(crate) weight: u16,
    pub(crate) workers: u32,
    /// The mean time that a call takes.
    pub(crate) takes: Duration,
}

impl Server {
    /// Calls a second that it can do.
    fn capacity(&self) -> f64 {
        f64::from(self.workers) / self.takes.as_secs_f64()
    }
}

/// A simulated scenario: calls that arrive one by one, regardless of earlier ones.
pub(crate) struct Scenario {
    pub(crate) servers: Vec<Server>,
    /// Calls that arrive, as a part of what all servers together can do.
    pub(crate) load: f64,
    pub(crate) calls: usize,
    /// Clients that make the calls, each with a balancer.
    pub(crate) clients: usize,
    /// The load that servers report to them.
    pub(crate) reports: Reports,
}

/// The load that servers report.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reports {
    None,
    /// Calls a second, and in flight.
    Calls,
    /// The same, and the part of its workers that are busy.
    Utilization,
}

/// The outcome of a scenario.
pub(crate) struct Outcome {
    /// The part of the calls that each server got.
    pub(crate) shares: Vec<f64>,
    /// In order, in milliseconds.
    latencies: Vec<f64>,
}

impl Outcome {
    /// The latency that this part of the calls did not pass.
    pub(crate) fn percentile(&self, part: f64) -> f64 {
        let last = self.latencies.len() - 1;
        self.latencies[(part * last as f64).round() as usize]
    }
}

const SEED: u64 = 42;
/// Users whose calls these are; one of them makes a tenth of all calls.
const USERS: f64 = 1_000.0;

/// A call, the same for all balancers.
struct Call {
    arrives: u64,
    /// The amount of work; 1 is the mean.
    work: f64,
    user: u32,
    client: usize,
}

/// Ordered by time, in nanoseconds; of those at once the arrival of the lower number comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrives(usize),
    IsDone(usize, usize),
}

#[derive(Default)]
struct Working {
    busy: u32,
    waiting: VecDeque<usize>,
    window: Window,
    /// The number of the last report.
    reports: u64,
    report: Option<LoadReport>,
}

/// The work of a server since its last report.
#[derive(Default)]
struct Window {
    /// When it began, in nanoseconds.
    begin: u64,
    answered: f64,
    /// The sum of the calls in flight at each answer.
    in_flight: f64,
    /// Time that workers have worked, in nanoseconds.
    worked: f64,
}

/// The interval of reports, as in `LoadReporting`.
const REPORT_INTERVAL: u64 = 500_000_000;

impl Working {
    /// Counts a call that was answered after this work.
    fn answered(&mut self, server: &Server, worked: f64, now: u64, reports: Reports) {
        self.window.answered += 1.0;
        self.window.in_flight += f64::from(self.busy) + self.waiting.len() as f64;
        self.window.worked += worked;
        let took = (now - self.window.begin) as f64;
        if reports == Reports::None || took < REPORT_INTERVAL as f64 {
            return;
        }
        let Window { answered, in_flight, worked, .. } = std::mem::take(&mut self.window);
        let report = LoadReport::new(answered / took * 1e9, in_flight / answered);
        self.report = Some(match reports {
            Reports::Utilization => report.with_utilization(worked / took / f64::from(server.workers)),
            _ => report,
        });
        self.reports += 1;
        self.window.begin = now;
    }
}

/// Runs a scenario with a balancer, in virtual time.
pub(crate) fn run(scenario: &Scenario, balancer: &dyn Balancer) -> Outcome {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime without I/O");
    runtime.block_on(simulate(scenario, balancer))
}

async fn simulate(scenario: &Scenario, balancer: &dyn Balancer) -> Outcome {
    fastrand::seed(SEED);
    let clients: Vec<Candidates> = (0..scenario.clients).map(|_| candidates(&scenario.servers)).collect();
    // Where each server reports to each client.
    let connections: Vec<Vec<LoadReports>> = clients
        .iter()
        .map(|candidates| candidates.usable.iter().map(|candidate| candidate.load.reports()).collect())
        .collect();
    let pickers: Vec<_> = clients.iter().map(|candidates| balancer.picker(candidates)).collect();
    // The number of the last report that each client has of each server.
    let mut told = vec![vec![0; scenario.servers.len()]; scenario.clients];
    let calls = calls(scenario);
    let mut servers: Vec<Working> = scenario.servers.iter().map(|_| Working::default()).collect();
    let mut counts = vec![0_usize; servers.len()];
    let mut latencies = Vec::with_capacity(calls.len());
    let mut now = 0;
    let mut events = BinaryHeap::from([Reverse((calls[0].arrives, What::Arrives(0)))]);

    while let Some(Reverse((at, what))) = events.pop() {
        tokio::time::advance(Duration::from_nanos(at - now)).await;
        now = at;
        let index = match what {
            What::Arrives(call) => {
                if let Some(next) = calls.get(call + 1) {
                    events.push(Reverse((next.arrives, What::Arrives(call + 1))));
                }
                let key = calls[call].user.to_string();
                let client = calls[call].client;
                let index = pickers[client].pick(&PickRequest::new(Some(key.as_bytes()), &[]));
                clients[client].usable[index].load.started();
                counts[index] += 1;
                servers[index].waiting.push_back(call);
                index
            }
            What::IsDone(index, call) => {
                let latency = Duration::from_nanos(now - calls[call].arrives);
                let client = calls[call].client;
                let load = &clients[client].usable[index].load;
                let reports = &connections[client][index];
                load.ended();
                load.record_latency(latency);
                latencies.push(latency.as_secs_f64() * 1e3);
                let (server, working) = (&scenario.servers[index], &mut servers[index]);
                let worked = calls[call].work * server.takes.as_nanos() as f64;
                working.answered(server, worked, now, scenario.reports);
                working.busy -= 1;
                if let Some(report) = working.report.filter(|_| told[client][index] != working.reports) {
                    told[client][index] = working.reports;
                    reports.record(report);
                }
                index
            }
        };
        let (server, working) = (scenario.servers[index], &mut servers[index]);
        while working.busy < server.workers
            && let Some(call) = working.waiting.pop_front()
        {
            working.busy += 1;
            let takes = (calls[call].work * server.takes.as_nanos() as f64) as u64;
            events.push(Reverse((now + takes, What::IsDone(index, call))));
        }
    }
    latencies.sort_by(f64::total_cmp);
    Outcome { shares: counts.iter().map(|count| *count as f64 / calls.len() as f64).collect(), latencies }
}

fn calls(scenario: &Scenario) -> Vec<Call> {
    let mut chance = fastrand::Rng::with_seed(SEED);
    let mut exponential = |mean: f64| -mean * (1.0 - chance.f64()).ln();
    let capacity: f64 = scenario.servers.iter().map(Server::capacity).sum();
    let apart = 1e9 / (capacity * scenario.load);
    let mut of_clients = fastrand::Rng::with_seed(SEED + 1);
    let mut arrives = 0.0;
    let mut call = || {
        arrives += exponential(apart);
        // A cube prefers small numbers: the first of a thousand users makes a tenth of the calls.
        let user = (USERS * (1.0 - (-exponential(1.0)).exp()).powi(3)) as u32;
        Call {
            arrives: arrives as u64,
            work: exponential(1.0),
            user,
            client: of_clients.usize(..scenario.clients),
        }
    };
    (0..scenario.calls).map(|_| call()).collect()
}

/// The first three servers are in the client's zone.
fn zone(index: usize) -> &'static str {
    if index < 3 { "here" } else { "there" }
}

fn candidates(servers: &[Server]) -> Candidates {
    let candidate = |(index, server): (usize, &Server)| {
        Candidate::new(
            index as u64,
            Arc::new(endpoint(index).with_weight(server.weight).with_zone(zone(index))),
            Arc::default(),
        )
    };
    let usable: Arc<[Candidate]> = servers.iter().enumerate().map(candidate).collect();
    Candidates::new(Arc::clone(&usable), usable)
}

/// The endpoint of this number.
pub(crate) fn endpoint(number: usize) -> Endpoint {
    let [.., high, low] = number.to_be_bytes();
    let address = format!("tcp@10.0.{high}.{low}:7001");
    Endpoint::new(Address::parse(&address).expect("the address is well formed"))
}
