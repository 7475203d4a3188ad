//! The HTTP interface: [`router`]. Handlers are thin; each file is one part of the interface.

mod answer;
mod auth;
mod body;
mod failure;
mod gate;
mod instances;
mod operations;
mod query;
mod simple;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

pub(super) use self::gate::Authority;
use super::page;
use super::registry::Registry;

/// Everything: routes, and around them, from the inside: tokens, `Host` and `Origin`, what all
/// answers have in common.
pub(super) fn router(registry: Registry, listening: &[SocketAddr]) -> Router {
    let gate = gate::OriginCheck::new(listening, registry.inner.allowed_hosts.clone());
    let simple = registry.inner.settings.simple_path.clone();
    let instance =
        get(instances::one).put(instances::register).patch(instances::patch).delete(instances::deregister);
    let guarded = Router::new()
        .route(&simple, get(simple::list).post(simple::register))
        .route("/v1/services", get(instances::services))
        .route("/v1/services/{service}/instances", get(instances::list))
        .route("/v1/services/{service}/instances/{id}", instance)
        .route("/v1/services/{service}/instances/{id}/heartbeat", post(instances::heartbeat))
        .route("/v1/heartbeats", post(instances::heartbeats))
        .route("/v1/watch", get(watch::watch))
        .route("/v1/status", get(operations::status))
        .route("/metrics", get(operations::metrics))
        .route_layer(from_fn_with_state(registry.clone(), auth::check));
    let open = Router::new()
        .route("/", get(async || page::page()))
        .route("/healthz", get(operations::healthz))
        .route("/readyz", get(operations::readyz));
    guarded
        .merge(open)
        .layer(from_fn_with_state(Arc::new(gate), gate::check))
        .layer(from_fn_with_state(registry.clone(), answer::finish))
        .with_state(registry)
}
