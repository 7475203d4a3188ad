//! [`router`]: which request goes where.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use farcall_protocol::describe::HealthStatus;
use farcall_server::ServerHandle;

use crate::answer::sentence;
use crate::debug;
use crate::gate::{Forbidden, OriginCheck};
#[cfg(feature = "gateway")]
use crate::gateway;
use crate::metrics;
use crate::opening;
use crate::options::HttpOptions;

/// What all requests share. A clone is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) handle: ServerHandle,
    pub(crate) settings: Arc<HttpOptions>,
    pub(crate) gate: Arc<OriginCheck>,
}

/// An axum router for a server: connections for calls, and pages about it. See the
/// [front page](crate) for its paths.
///
/// It can be merged into a router of your own. [`serve`](crate::serve) serves it; who serves it in
/// another way must do so over HTTP/1.1 with upgrades, as `axum::serve` does, and should say where
/// requests come from: by axum's `ConnectInfo<SocketAddr>`, or by a
/// [`PeerAddress`](farcall_transport::PeerAddress) among the request's extensions. Otherwise the
/// server's limit of connections for each peer does not hold. What TLS tells of a caller through the
/// gateway is looked for there as well, as an `Arc<`[`TlsInfo`](farcall_transport::TlsInfo)`>`.
pub fn router(handle: ServerHandle, settings: HttpOptions) -> Router {
    let gate = Arc::new(OriginCheck::new(&settings));
    let settings = Arc::new(settings);
    let debug = debug::routes(Some(handle.clone()), &settings);
    let shared = Shared { handle, settings: Arc::clone(&settings), gate: Arc::clone(&gate) };
    let pages = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(prometheus))
        .merge(debug);
    #[cfg(feature = "gateway")]
    let pages = pages.merge(gateway::routes(&shared));
    let pages = pages
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(nothing)
        .layer(from_fn_with_state(gate, check));
    Router::new().route("/_farcall_", any(opening::open)).merge(pages).with_state(shared)
}

/// An axum router for a process that only calls: `/healthz`, and `/debug/farcall` with the channels
/// of [`HttpOptions::channel`]. For the rest it is as [`router`].
#[cfg(feature = "client")]
pub fn client_router(settings: &HttpOptions) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .merge(debug::routes(None, settings))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::new(OriginCheck::new(settings)), check))
}

/// Lets through what no foreign page has asked for.
async fn check(State(gate): State<Arc<OriginCheck>>, request: Request, next: Next) -> Response {
    match gate.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => forbidden(request.uri().path(), &why),
    }
}

fn forbidden(path: &str, Forbidden(why): &Forbidden) -> Response {
    #[cfg(feature = "gateway")]
    if gateway::is_at(path) {
        return gateway::forbidden(why);
    }
    let _ = path;
    sentence(StatusCode::FORBIDDEN, why)
}

/// `GET /healthz`: it answers.
async fn healthz() -> Response {
    sentence(StatusCode::OK, "ok")
}

/// `GET /readyz`: whether it takes calls.
async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.handle.health() {
        HealthStatus::Serving => sentence(StatusCode::OK, "ready"),
        HealthStatus::Draining => {
            sentence(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping, and takes no new calls")
        }
    }
}

/// `GET /metrics`
async fn prometheus(State(shared): State<Shared>) -> Response {
    let mut response = metrics::render(&shared.handle).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn nothing(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    sentence(StatusCode::NOT_FOUND, &format!("there is nothing at {path}"))
}

/// axum adds what is allowed.
async fn method_not_allowed(method: Method) -> Response {
    let method: String = method.as_str().chars().take(40).collect();
    sentence(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("{method} is not allowed here: this page is read by GET"),
    )
}
