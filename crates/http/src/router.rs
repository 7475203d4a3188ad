//! [`router`]: the routes of a server's HTTP interface.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get};
use farcall_server::ServerHandle;
use farcall_web::{OriginCheck, OriginError};

use crate::debug;
#[cfg(feature = "gateway")]
use crate::gateway;
use crate::metrics;
use crate::options::HttpOptions;
use crate::readiness;
use crate::state::HttpState;
use crate::text_response::text_response;
use crate::upgrade;

/// Creates an axum router for a server: connections for calls, and pages about it. See the
/// [front page](crate) for its paths.
///
/// It can be merged into another router. [`serve`](crate::serve) serves it; any other server must use
/// HTTP/1.1 with upgrades, as `axum::serve` does, and should put the client's address into the
/// request's extensions: axum's `ConnectInfo<SocketAddr>` or a
/// [`PeerAddress`](farcall_transport::PeerAddress). Without it the server's limits for each peer are
/// not enforced, and all clients together have the share of one peer. For calls through the gateway, TLS information about the caller is read from
/// there as well, as an `Arc<`[`TlsInfo`](farcall_transport::TlsInfo)`>`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, routing::get};
/// use farcall_http::HttpOptions;
/// use farcall_server::Server;
///
/// let server = Server::builder().listen("tcp@127.0.0.1:0").bind().await?;
/// let own = Router::new().route("/hello", get(async || "hello"));
/// let router = own.merge(farcall_http::router(server.handle(), HttpOptions::default()));
/// # let _ = router;
/// # Ok(())
/// # }
/// ```
pub fn router(handle: ServerHandle, options: HttpOptions) -> Router {
    let origins = Arc::new(options.origin_check());
    let debug = debug::routes(Some(handle.clone()), &options);
    let (metrics, readiness) =
        (metrics::routes(Some(handle.clone()), &options), readiness::routes(Some(handle.clone()), &options));
    let state = HttpState { handle, options: Arc::new(options), origins: Arc::clone(&origins) };
    let pages = Router::new().route("/healthz", get(healthz)).merge(readiness).merge(metrics).merge(debug);
    #[cfg(feature = "gateway")]
    let pages = pages.merge(gateway::routes(&state));
    let pages = pages
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(from_fn_with_state(origins, check_origin));
    Router::new().route("/_farcall_", any(upgrade::upgrade)).merge(pages).with_state(state)
}

/// Creates an axum router for a process that is only a client: `/healthz`, `/readyz` with the checks of
/// [`HttpOptions::ready_check`], and `/metrics` and `/debug/farcall` with the channels of [`HttpOptions::channel`].
/// Otherwise it is like [`router`].
#[cfg(feature = "client")]
pub fn client_router(options: &HttpOptions) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .merge(readiness::routes(None, options))
        .merge(metrics::routes(None, options))
        .merge(debug::routes(None, options))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(from_fn_with_state(Arc::new(options.origin_check()), check_origin))
}

/// Refuses requests that a foreign page made a browser send.
async fn check_origin(State(origins): State<Arc<OriginCheck>>, request: Request, next: Next) -> Response {
    match origins.check(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => forbidden(request.uri().path(), &error),
    }
}

fn forbidden(path: &str, error: &OriginError) -> Response {
    let reason = error.to_string();
    #[cfg(feature = "gateway")]
    if gateway::is_at(path) {
        return gateway::forbidden(&reason);
    }
    let _ = path;
    text_response(StatusCode::FORBIDDEN, &reason)
}

/// Answers `GET /healthz`.
async fn healthz() -> Response {
    text_response(StatusCode::OK, "ok")
}

async fn not_found(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    text_response(StatusCode::NOT_FOUND, &format!("there is nothing at {path}"))
}

/// Answers a request with a wrong method; axum adds the header `Allow`.
async fn method_not_allowed(method: Method) -> Response {
    let method: String = method.as_str().chars().take(40).collect();
    text_response(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("{method} is not allowed here: this path supports only GET"),
    )
}
