//! The HTTP interface: [`router`] and its handlers, one file for each part of the interface.
//!
//! Handlers are thin: the operations are methods of [`RegistryState`](super::state::RegistryState).

mod auth;
mod body;
mod error;
mod gate;
mod heartbeat_reader;
mod heartbeat_reply;
mod instances;
mod operations;
mod query;
mod response;
mod simple;
mod token;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use farcall_web::OriginCheck;

use super::page;
use super::state::SharedState;

/// Returns all routes, in layers; from the inside: the check of tokens, the check of `Host` and `Origin`, and the
/// completion of responses.
pub(super) fn router(registry: SharedState, listening: &[SocketAddr]) -> Router {
    let origins = OriginCheck::listening_on(listening)
        .allow_hosts(registry.allowed_hosts.clone())
        .allow_origins_of_hosts();
    let simple = registry.options.simple_path.clone();
    let instance =
        get(instances::get).put(instances::register).patch(instances::patch).delete(instances::deregister);
    let authorized = Router::new()
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
    authorized
        .merge(open)
        .layer(from_fn_with_state(Arc::new(origins), gate::check))
        .layer(from_fn_with_state(registry.clone(), response::finish))
        .with_state(registry)
}
