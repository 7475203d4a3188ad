//! The registry of one process.

use std::time::Duration;

use farcall_discovery::{MemoryDiscovery, MemoryRegistrar, MemoryRegistry};

use crate::place::{Listed, Place, Source, test_place};

test_place!(MemoryPlace);

struct MemoryPlace {
    registry: MemoryRegistry,
    listed: Listed<MemoryRegistrar>,
}

impl Source for MemoryPlace {
    type Discovery = MemoryDiscovery;

    async fn start(ttl: Duration) -> Self {
        let registry = MemoryRegistry::with_ttl(ttl);
        Self { listed: Listed::with(registry.registrar()), registry }
    }

    fn discovery(&self, service: &str) -> MemoryDiscovery {
        self.registry.discovery(service)
    }

    async fn list(&self, service: &str, ports: &[u16]) {
        self.listed.list(service, ports).await;
    }

    async fn cut(&self) {
        self.registry.interrupt("the test cut it off");
    }

    async fn restore(&self) {
        self.registry.restore();
    }

    fn connections(&self) -> Option<usize> {
        None
    }
}

impl Place for MemoryPlace {
    type Registrar = MemoryRegistrar;

    fn registrar(&self) -> MemoryRegistrar {
        self.registry.registrar()
    }

    async fn forget(&self) {
        self.registry.clear();
    }
}
