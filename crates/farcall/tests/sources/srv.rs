//! SRV records of DNS, by the system's BIND.

use std::time::Duration;

use farcall_discovery::SrvDiscovery;

use crate::place::{Source, test_source};

#[path = "../../../discovery/tests/srv/bind.rs"]
#[allow(dead_code, reason = "the tests of farcall-discovery need more of it")]
mod bind;

test_source!(Srv);

struct Srv(tokio::sync::Mutex<bind::Bind>);

impl Source for Srv {
    type Discovery = SrvDiscovery;

    async fn start(_: Duration) -> Self {
        Self(tokio::sync::Mutex::new(bind::Bind::start().await))
    }

    fn discovery(&self, service: &str) -> SrvDiscovery {
        let bind = self.0.try_lock().unwrap();
        SrvDiscovery::new(&format!("srv@_{service}._tcp.test")).unwrap().name_servers([bind.address()])
    }

    async fn list(&self, service: &str, ports: &[u16]) {
        let mut bind = self.0.lock().await;
        let records: Vec<_> = ports.iter().map(|port| format!("0 1 {port} host")).collect();
        // A service that is not there is one record without a target.
        let records = if records.is_empty() { vec!["0 0 0 .".to_owned()] } else { records };
        bind.set_srv(&format!("_{service}._tcp"), &records);
    }

    async fn cut(&self) {
        self.0.lock().await.stop();
    }

    async fn restore(&self) {
        self.0.lock().await.start_again().await;
    }

    /// Each question has a socket, for as long as it waits for its answer.
    fn connections(&self) -> Option<usize> {
        None
    }
}
