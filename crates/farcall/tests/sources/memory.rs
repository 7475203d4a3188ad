//! The registry of one process.

use std::time::Duration;

use farcall_discovery::{MemoryDiscovery, MemoryRegistrar, MemoryRegistry};

use crate::place::{Place, test_place};

test_place!(MemoryRegistry);

impl Place for MemoryRegistry {
    type Registrar = MemoryRegistrar;
    type Discovery = MemoryDiscovery;

    async fn start(ttl: Duration) -> Self {
        MemoryRegistry::with_ttl(ttl)
    }

    fn registrar(&self) -> MemoryRegistrar {
        MemoryRegistry::registrar(self)
    }

    fn discovery(&self, service: &str) -> MemoryDiscovery {
        MemoryRegistry::discovery(self, service)
    }

    async fn cut(&self) {
        self.interrupt("the test cut it off");
    }

    async fn restore(&self) {
        MemoryRegistry::restore(self);
    }

    async fn forget(&self) {
        self.clear();
    }

    fn connections(&self) -> Option<usize> {
        None
    }
}
