//! Servers that register, come and go, and a client that knows only a name: REGISTRY's promise that
//! no call fails when a server stops gracefully.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use farcall::discovery::MemoryRegistry;
use farcall::discovery::RegistrationState;
use farcall::server::{Limits, ServerHandle};
use farcall::{Channel, Server};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

#[farcall::service(name = "shop.Counter")]
trait Counter {
    /// Not idempotent: a call that may have been made is not made again.
    async fn count(&self) -> u64;
}

#[derive(Clone, Default)]
struct Counted(Arc<AtomicU64>);

impl Counter for Counted {
    async fn count(&self) -> u64 {
        // Slow enough that some calls are in flight whenever a server stops.
        sleep(Duration::from_millis(5)).await;
        self.0.fetch_add(1, SeqCst)
    }
}

/// Longer than a busy machine takes.
const LONG: Duration = Duration::from_secs(60);

/// Starts a server and waits until it is registered.
async fn start(registry: &MemoryRegistry, counted: &Counted) -> (ServerHandle, JoinHandle<()>) {
    let server = Server::builder()
        .service(counted.clone().into_service())
        .limits(Limits::default().deregister_pause(Duration::from_millis(100)))
        .listen("tcp@127.0.0.1:0")
        .register_with(registry.registrar())
        .bind()
        .await
        .unwrap();
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    let registered = async {
        while !matches!(handle.registrations()[0].state, RegistrationState::Registered { .. }) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, registered).await.unwrap();
    (handle, serving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_call_fails_during_a_rolling_replacement() {
    const CALLERS: usize = 8;
    const REPLACEMENTS: usize = 15;
    let (registry, counted) = (MemoryRegistry::new(), Counted::default());
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(start(&registry, &counted).await);
    }
    let channel =
        Channel::builder().discover(registry.discovery("shop.Counter")).timeout(LONG).build().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, done) = (CounterClient::new(channel.clone()), Arc::clone(&done));
            tokio::spawn(async move {
                let mut calls = 0;
                while !done.load(SeqCst) {
                    client.count().await.unwrap();
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for _ in 0..REPLACEMENTS {
        servers.push(start(&registry, &counted).await);
        let (handle, serving) = servers.remove(0);
        handle.stop();
        timeout(LONG, serving).await.unwrap().unwrap();
        assert_eq!(handle.registrations()[0].state, RegistrationState::Deregistered);
    }
    // The last servers get calls, too.
    let called = |handle: &ServerHandle| handle.stats().iter().any(|method| method.calls > 0);
    let all_called = async {
        while !servers.iter().all(|(handle, _)| called(handle)) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, all_called).await.unwrap();
    done.store(true, SeqCst);
    let mut calls = 0;
    for caller in callers {
        calls += timeout(LONG, caller).await.unwrap().unwrap();
    }
    assert_eq!(counted.0.load(SeqCst), calls, "each was made once");
}
