//! The client against farcall's own registry, with all or some of its paths, as behind a proxy.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;
use farcall_discovery::{Instance, Registrar, Renewal};
use farcall_registry::client::{HttpDiscovery, HttpRegistrar};
use farcall_registry::server::{Registry, RegistryOptions};
use farcall_test_support::wait::PATIENCE;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::fake_registry::RunningDiscovery;

/// Starts a registry with a part of its routes, which runs until the set is dropped.
async fn registry(part: impl FnOnce(Router) -> Router) -> (SocketAddr, JoinSet<()>) {
    let registry = Registry::open(RegistryOptions::default()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = part(registry.router(&[address]));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    tasks.spawn(async move { registry.run(std::future::pending()).await });
    (address, tasks)
}

/// Restricts the routes to some paths.
fn only(whole: Router, shown: fn(&str) -> bool) -> Router {
    whole.layer(from_fn(move |request: Request, next: Next| async move {
        if shown(request.uri().path()) {
            next.run(request).await
        } else {
            StatusCode::NOT_FOUND.into_response()
        }
    }))
}

/// Registers, renews, changes and removes an instance, and asserts that each change is discovered.
async fn assert_registered_instances_are_discovered(address: SocketAddr, service: &str) {
    let url = format!("http://{address}");
    let registrar = HttpRegistrar::new(&url).unwrap().timeout(PATIENCE);
    let mut running = RunningDiscovery::of(
        HttpDiscovery::new(&url, service).unwrap().timeout(PATIENCE).poll_interval(Duration::from_millis(50)),
    );
    running.wait_for_ports(&[]).await;
    let mut instance = Instance::new(service, "tcp@10.0.0.1:7001".parse().unwrap());
    let mut lease = registrar.register(&instance).await.unwrap().lease;
    running.wait_for_ports(&[7001]).await;
    let renewal = registrar.renew(&instance, &mut lease).await.unwrap();
    assert_eq!(
        renewal,
        Renewal::Renewed(Duration::from_secs(240)),
        "the heartbeat of a registry as it comes"
    );
    instance.addr = "tcp@10.0.0.1:7002".parse().unwrap();
    instance.id = instance.addr.to_string();
    let other = registrar.register(&instance).await.unwrap().lease;
    running.wait_for_ports(&[7001, 7002]).await;
    registrar.deregister(&instance, other).await.unwrap();
    running.wait_for_ports(&[7001]).await;
}

#[tokio::test]
async fn whole_registry() {
    let (address, _tasks) = registry(|whole| whole).await;
    assert_registered_instances_are_discovered(address, "Arith").await;
    assert_registered_instances_are_discovered(address, "").await;
}

#[tokio::test]
async fn registry_without_watches() {
    let (address, _tasks) = registry(|whole| only(whole, |path| path != "/v1/watch")).await;
    assert_registered_instances_are_discovered(address, "Arith").await;
}

#[tokio::test]
async fn simple_interface_only() {
    let (address, _tasks) = registry(|whole| only(whole, |path| path == "/registry")).await;
    assert_registered_instances_are_discovered(address, "Arith").await;
    assert_registered_instances_are_discovered(address, "").await;
}
