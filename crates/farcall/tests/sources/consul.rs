//! Consul, by the stand-in for its agent.

use std::time::Duration;

use farcall_consul::{ConsulDiscovery, ConsulOptions, ConsulRegistrar};

use crate::gate::Gate;
use crate::place::{Listed, Place, Source, test_place};

#[path = "../../../consul/tests/consul/agent.rs"]
#[allow(dead_code, reason = "the tests of farcall-consul need more of it")]
mod agent;

test_place!(Consul);

struct Consul {
    gate: Gate,
    options: ConsulOptions,
    listed: Listed<ConsulRegistrar>,
    agent: agent::Agent,
}

impl Source for Consul {
    type Discovery = ConsulDiscovery;

    async fn start(ttl: Duration) -> Self {
        let agent = agent::Agent::start().await;
        let gate = Gate::to(agent.address).await;
        let options = ConsulOptions::new(&format!("http://{}", gate.address())).unwrap().ttl(ttl);
        Self { gate, listed: Listed::with(ConsulRegistrar::new(&options).unwrap()), options, agent }
    }

    fn discovery(&self, service: &str) -> ConsulDiscovery {
        ConsulDiscovery::new(&self.options, service).unwrap()
    }

    async fn list(&self, service: &str, ports: &[u16]) {
        self.listed.list(service, ports).await;
    }

    async fn cut(&self) {
        self.gate.lead_to(None).await;
    }

    async fn restore(&self) {
        self.gate.lead_to(Some(self.agent.address)).await;
    }

    fn connections(&self) -> Option<usize> {
        Some(self.gate.open_connections())
    }
}

impl Place for Consul {
    type Registrar = ConsulRegistrar;

    fn registrar(&self) -> ConsulRegistrar {
        ConsulRegistrar::new(&self.options).unwrap()
    }

    async fn forget(&self) {
        self.agent.forget();
    }
}
