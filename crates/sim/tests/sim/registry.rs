//! Registries that are killed and start again.

use std::time::Duration;

use farcall::Server;
use farcall_registry::server::RegistryOptions;
use farcall_sim::{Node, Sim};
use tokio::time::sleep;

#[test]
fn registry_has_its_servers_after_a_restart_if_it_has_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    for keeps in [true, false] {
        let mut options = RegistryOptions::default().ttl(Duration::from_secs(600));
        if keeps {
            options = options.snapshot(directory.path().join("instances"));
        }
        Sim::seed(1).run(async move |cluster| {
            let registry = cluster.registry("registry", options).await.unwrap();
            let of = registry.clone();
            let describe = move |node: &Node| {
                let server = Server::builder().method("T.nothing", async |(): ()| ());
                server.register_with(of.registrar(node))
            };
            let _server = cluster.server("a", describe).unwrap();
            // Virtual time, in which it registers, and the change is written.
            sleep(Duration::from_secs(10)).await;
            assert_eq!(registry.registry().list("T").len(), 1);
            // It cannot register again.
            cluster.partition(&["registry"], &["a"]);
            registry.kill();
            registry.restart().await.unwrap();
            assert_eq!(registry.registry().list("T").len(), usize::from(keeps));
        });
    }
}
