//! Kubernetes, by the stand-in for its API server.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use farcall_kubernetes::{KubernetesDiscovery, KubernetesOptions};

use crate::gate::Gate;
use crate::place::{Source, test_source};

#[path = "../../../kubernetes/tests/kubernetes/api_server.rs"]
#[allow(dead_code, reason = "the tests of farcall-kubernetes need more of it")]
mod api_server;

test_source!(Kubernetes);

struct Kubernetes {
    gate: Gate,
    api: api_server::ApiServer,
    /// The slices that are there: one for each port, since all endpoints of a slice have the same.
    slices: Mutex<BTreeSet<String>>,
}

impl Source for Kubernetes {
    type Discovery = KubernetesDiscovery;

    async fn start(_: Duration) -> Self {
        let api = api_server::ApiServer::start().await;
        Self { gate: Gate::to(api.address).await, api, slices: Mutex::default() }
    }

    fn discovery(&self, service: &str) -> KubernetesDiscovery {
        let options = KubernetesOptions::new(&format!("http://{}", self.gate.address()), "shop").unwrap();
        KubernetesDiscovery::new(&options, service).unwrap()
    }

    async fn list(&self, service: &str, ports: &[u16]) {
        let mut slices = self.slices.lock().unwrap();
        let wanted: BTreeSet<_> = ports.iter().map(|port| format!("{service}.{port}")).collect();
        let of_service = |name: &String| name.split_once('.').is_some_and(|(of, _)| of == service);
        for name in slices.iter().filter(|name| of_service(name) && !wanted.contains(*name)) {
            self.api.delete("shop", name);
        }
        for port in ports {
            let name = format!("{service}.{port}");
            if !slices.contains(&name) {
                self.api.put("shop", &api_server::slice(service, &name, *port, &["10.0.0.1"]));
            }
        }
        slices.retain(|name| !of_service(name));
        slices.extend(wanted);
    }

    async fn cut(&self) {
        self.gate.lead_to(None).await;
    }

    async fn restore(&self) {
        self.gate.lead_to(Some(self.api.address)).await;
    }

    fn connections(&self) -> Option<usize> {
        Some(self.gate.open_connections())
    }
}
