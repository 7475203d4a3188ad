//! Handlers for operators: health, readiness, status, metrics.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::HttpError;
use super::response;
use crate::server::state::SharedState;

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz(State(registry): State<SharedState>) -> Response {
    response::json(&registry, Health { status: "ok" })
}

/// `GET /readyz`: lists are complete.
pub(super) async fn readyz(State(registry): State<SharedState>) -> Result<Response, HttpError> {
    if registry.closing.is_cancelled() {
        return Err(HttpError::unavailable("the registry is stopping"));
    }
    if registry.store.rev_and_warming().1 {
        let error = "the registry is warming: it started without a snapshot, and instances may be missing";
        return Err(HttpError::unavailable(error));
    }
    Ok(response::json(&registry, Health { status: "ready" }))
}

/// `GET /v1/status`
pub(super) async fn status(State(registry): State<SharedState>) -> Response {
    response::json(&registry, registry.status())
}

/// `GET /metrics`
pub(super) async fn metrics(State(registry): State<SharedState>) -> Response {
    let (rev, warming) = registry.store.rev_and_warming();
    let text = registry.metrics.render(registry.counts(), rev, warming);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
