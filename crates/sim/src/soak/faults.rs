//! The faults of the soak, one after the other, at random.

use std::time::Duration;

use farcall::server::ServerHandle;
use fastrand::Rng;
use tokio::time::sleep;

use super::record::Record;
use crate::cluster::Cluster;
use crate::registry::SimRegistry;
use crate::server::SimServer;

/// The nodes to disturb.
pub(super) struct Targets {
    pub(super) cluster: Cluster,
    /// Without those that are spared.
    pub(super) servers: Vec<SimServer>,
    /// The names of all nodes, those that are spared first.
    pub(super) nodes: Vec<String>,
    /// The number of nodes at the front between which no fault may be.
    pub(super) spared: usize,
    pub(super) registry: Option<SimRegistry>,
    pub(super) record: Record,
}

/// Disturbs the cluster for as long as it is polled.
pub(super) async fn disturb(targets: &Targets, pause_ms: u64, random: &mut Rng) {
    loop {
        sleep(Duration::from_millis(random.u64(..2 * pause_ms))).await;
        targets.disturb_once(random).await;
    }
}

impl Targets {
    async fn disturb_once(&self, random: &mut Rng) {
        match random.u8(..14) {
            0 | 1 => self.server(random, |server| {
                self.record.count("kills");
                server.kill();
            }),
            2 | 3 => self.server(random, |server| server.restart().expect("it was started before")),
            4 => self.server(random, |server| server.handle().stop()),
            5 => self.pair(random, |one, other| {
                self.record.count("cuts");
                self.cluster.cut(one, other);
            }),
            6 => self.pair(random, |one, other| {
                self.record.count("partitions");
                self.cluster.partition(&[one], &[other]);
            }),
            7 | 8 => self.cluster.heal(),
            9 => self.pair(random, |one, other| self.cluster.reset(one, other)),
            10 => self.freeze_for_a_while(random).await,
            11 if random.u8(..4) == 0 => {
                let by = Duration::from_millis(random.u64(1..8000));
                self.record.jumped(by);
                self.cluster.jump(by).await;
                self.record.jumped(Duration::ZERO);
            }
            12 => self.disturb_registry(random).await,
            _ => self.start_all(),
        }
    }

    fn server(&self, random: &mut Rng, disturb: impl FnOnce(&SimServer)) {
        if let Some(server) = random.choice(&self.servers) {
            disturb(server);
        }
    }

    /// Disturbs the way between two nodes, unless both are spared.
    fn pair(&self, random: &mut Rng, disturb: impl FnOnce(&str, &str)) {
        let (one, other) = (random.usize(..self.nodes.len()), random.usize(..self.nodes.len()));
        if one != other && (one >= self.spared || other >= self.spared) {
            disturb(&self.nodes[one], &self.nodes[other]);
        }
    }

    async fn freeze_for_a_while(&self, random: &mut Rng) {
        let Some(name) = random.choice(&self.nodes[self.spared..]) else { return };
        self.record.count("freezes");
        self.cluster.freeze(name);
        sleep(Duration::from_millis(random.u64(..6000))).await;
        self.cluster.thaw(name);
    }

    async fn disturb_registry(&self, random: &mut Rng) {
        let Some(registry) = &self.registry else { return };
        self.record.count("kills of the registry");
        registry.kill();
        sleep(Duration::from_millis(random.u64(..8000))).await;
        registry.restart().await.expect("it was started before");
    }

    /// Starts the servers that have ended.
    fn start_all(&self) {
        for server in self.servers.iter().filter(|server| !is_serving(server)) {
            server.restart().expect("it was started before");
        }
    }

    /// Ends all faults.
    pub(super) async fn restore(&self) {
        self.cluster.heal();
        self.nodes.iter().for_each(|name| self.cluster.thaw(name));
        // A fault may have been given up between a kill and a restart.
        if let Some(registry) = &self.registry {
            registry.restart().await.expect("it was started before");
        }
        for server in &self.servers {
            server.restart().expect("it was started before");
        }
    }
}

/// Returns `true` if a server runs, and is not about to stop.
fn is_serving(server: &SimServer) -> bool {
    server.is_running() && is_healthy(&server.handle())
}

fn is_healthy(handle: &ServerHandle) -> bool {
    handle.health() == farcall::protocol::describe::HealthStatus::Serving
}
