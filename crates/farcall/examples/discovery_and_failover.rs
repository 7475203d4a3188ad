//! Servers that register, a channel that balances over them, and a server that stops under load.
//!
//! `cargo run -p farcall --example discovery_and_failover`

use std::collections::BTreeMap;

use farcall::client::RetryPolicy;
use farcall::discovery::{LeastLoaded, MemoryRegistry};
use farcall::server::ServerHandle;
use farcall::{Channel, Server};

#[farcall::service]
trait Host {
    /// Returns the name of the server that answers.
    #[rpc(idempotent)]
    async fn name(&self) -> String;
}

struct Named(String);

impl Host for Named {
    async fn name(&self) -> String {
        self.0.clone()
    }
}

/// Starts a server that registers while it serves.
async fn start(name: &str, registry: &MemoryRegistry) -> Result<ServerHandle, Box<dyn std::error::Error>> {
    let server = Server::builder()
        .service(Named(name.to_owned()).into_service())
        .listen("tcp@127.0.0.1:0")
        // Between processes this is `HttpRegistrar`, `EtcdRegistrar`, or a registrar of your own.
        .register_with(registry.registrar())
        .bind()
        .await?;
    let handle = server.handle();
    tokio::spawn(server.serve());
    Ok(handle)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = MemoryRegistry::new();
    let first = start("first", &registry).await?;
    start("second", &registry).await?;
    start("third", &registry).await?;

    let channel = Channel::builder()
        .discover(registry.discovery("Host"))
        .balancer(LeastLoaded)
        .retry(RetryPolicy::fail_over().max_attempts(3))
        .wait_for_ready(true)
        .build()?;
    let host = HostClient::new(channel);

    let mut answers = BTreeMap::<String, u32>::new();
    for n in 0..3_000 {
        if n == 1_000 {
            // It deregisters, says goaway and finishes what is under way: no call fails.
            first.stop();
        }
        *answers.entry(host.name().await?).or_default() += 1;
    }
    println!("3000 calls, none failed: {answers:?}");
    Ok(())
}
