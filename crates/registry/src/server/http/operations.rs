//! What operators ask: health, readiness, status, metrics.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::answer;
use super::failure::Failure;
use crate::server::registry::Registry;

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// `GET /healthz`: it answers.
pub(super) async fn healthz(State(registry): State<Registry>) -> Response {
    answer::json(&registry, Health { status: "ok" })
}

/// `GET /readyz`: what it answers is complete.
pub(super) async fn readyz(State(registry): State<Registry>) -> Result<Response, Failure> {
    if registry.inner.closing.is_cancelled() {
        return Err(Failure::unavailable("the registry is stopping"));
    }
    if registry.is_warming() {
        let error = "the registry is warming: it started without a snapshot, and not all servers may be back";
        return Err(Failure::unavailable(error));
    }
    Ok(answer::json(&registry, Health { status: "ready" }))
}

/// `GET /v1/status`
pub(super) async fn status(State(registry): State<Registry>) -> Response {
    answer::json(&registry, registry.status())
}

/// `GET /metrics`
pub(super) async fn metrics(State(registry): State<Registry>) -> Response {
    let (rev, warming) = registry.saved_state();
    let text = registry.inner.metrics.render(registry.counts(), rev, warming);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
