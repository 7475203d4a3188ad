//! The registry over HTTP.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use farcall_registry::client::{HttpDiscovery, HttpRegistrar};
use farcall_registry::server::{Registry, RegistryOptions};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::gate::Gate;
use crate::place::{Listed, Place, Source, test_place};

test_place!(HttpPlace);

/// The pause of clients after a failure.
const SOON: Duration = Duration::from_millis(50);
/// The interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(500);

struct HttpPlace {
    gate: Gate,
    ttl: Duration,
    listed: Listed<HttpRegistrar>,
    registry: Mutex<Running>,
}

/// A registry that runs until this is dropped.
struct Running {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Running {
    async fn start(ttl: Duration) -> Self {
        // Without a snapshot a registry warms for one heartbeat.
        let settings = RegistryOptions::default().ttl(ttl).heartbeat(HEARTBEAT);
        let registry = Registry::open(settings).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = registry.router(&[address]);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        tasks.spawn(async move { registry.run(std::future::pending()).await });
        Self { address, _tasks: tasks }
    }
}

fn registrar(gate: &Gate, ttl: Duration) -> HttpRegistrar {
    HttpRegistrar::new(&format!("http://{}", gate.address())).unwrap().ttl(ttl)
}

impl Source for HttpPlace {
    type Discovery = HttpDiscovery;

    async fn start(ttl: Duration) -> Self {
        let running = Running::start(ttl).await;
        let gate = Gate::to(running.address).await;
        Self { listed: Listed::with(registrar(&gate, ttl)), gate, ttl, registry: Mutex::new(running) }
    }

    fn discovery(&self, service: &str) -> HttpDiscovery {
        let url = format!("http://{}/registry", self.gate.address());
        HttpDiscovery::new(&url, service).unwrap().backoff(SOON, SOON)
    }

    async fn list(&self, service: &str, ports: &[u16]) {
        self.listed.list(service, ports).await;
    }

    async fn cut(&self) {
        self.gate.lead_to(None).await;
    }

    async fn restore(&self) {
        let address = self.registry.lock().unwrap().address;
        self.gate.lead_to(Some(address)).await;
    }

    fn connections(&self) -> Option<usize> {
        Some(self.gate.open_connections())
    }
}

impl Place for HttpPlace {
    type Registrar = HttpRegistrar;

    fn registrar(&self) -> HttpRegistrar {
        registrar(&self.gate, self.ttl)
    }

    async fn forget(&self) {
        let fresh = Running::start(self.ttl).await;
        self.gate.lead_to(Some(fresh.address)).await;
        *self.registry.lock().unwrap() = fresh;
    }
}
