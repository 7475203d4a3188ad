//! etcd, the system's program.

use std::time::Duration;

use farcall_etcd::{EtcdDiscovery, EtcdOptions, EtcdRegistrar};
use serde_json::json;

use crate::gate::Gate;
use crate::place::{Listed, Place, Source, test_place};

#[path = "../../../etcd/tests/etcd/server.rs"]
#[allow(dead_code, reason = "the tests of farcall-etcd need more of it")]
mod server;

test_place!(EtcdPlace);

struct EtcdPlace {
    gate: Gate,
    options: EtcdOptions,
    listed: Listed<EtcdRegistrar>,
    etcd: server::EtcdServer,
}

impl Source for EtcdPlace {
    type Discovery = EtcdDiscovery;

    async fn start(ttl: Duration) -> Self {
        let etcd = server::EtcdServer::start().await;
        let gate = Gate::to(etcd.host_and_port().parse().unwrap()).await;
        let options = EtcdOptions::new(&gate.address().to_string()).unwrap();
        // A generous timeout: an etcd on a busy machine is slow, not unreachable.
        let options =
            options.ttl(ttl).check_after(Duration::from_secs(1)).request_timeout(Duration::from_secs(20));
        Self { gate, listed: Listed::with(EtcdRegistrar::new(&options).unwrap()), options, etcd }
    }

    fn discovery(&self, service: &str) -> EtcdDiscovery {
        EtcdDiscovery::new(&self.options, service).unwrap()
    }

    async fn list(&self, service: &str, ports: &[u16]) {
        self.listed.list(service, ports).await;
    }

    async fn cut(&self) {
        self.gate.lead_to(None).await;
    }

    async fn restore(&self) {
        self.gate.lead_to(Some(self.etcd.host_and_port().parse().unwrap())).await;
    }

    fn connections(&self) -> Option<usize> {
        Some(self.gate.open_connections())
    }
}

impl Place for EtcdPlace {
    type Registrar = EtcdRegistrar;

    fn registrar(&self) -> EtcdRegistrar {
        EtcdRegistrar::new(&self.options).unwrap()
    }

    async fn forget(&self) {
        let leases = self.etcd.ask("lease/leases", json!({})).await;
        for lease in leases["leases"].as_array().into_iter().flatten() {
            self.etcd.ask("lease/revoke", json!({"ID": lease["ID"]})).await;
        }
    }
}
