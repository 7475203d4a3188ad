//! `/rpc`: calls by plain HTTP, with JSON bodies, and what there is to call. What a call is, and who may
//! make it, is the server's, which makes it as one that came over a connection.
//!
//! Which pages of a browser may ask is decided before: the router's gate lets no foreign origin through.

mod answer;
mod body;
mod call;
mod head;
mod listing;
mod openapi;
mod options;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::{ALLOW, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use farcall_protocol::{Code, Status};
use farcall_server::ServerHandle;
use tokio::sync::Semaphore;
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use self::answer::Failure;
pub use self::options::Gateway;
use crate::router::Shared;

/// Where it is.
const ROOT: &str = "/rpc";
/// Where the document is.
const DOCUMENT: &str = "/rpc/openapi.json";
/// How long a browser may keep what a preflight was answered, so that it does not ask before each call.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

/// What the gateway's requests share. A clone is cheap.
#[derive(Clone, Debug)]
struct Open {
    handle: ServerHandle,
    options: Arc<Gateway>,
    /// A permit for each byte of a body that may be held at this moment.
    room: Arc<Semaphore>,
}

/// The gateway, or how it is turned on.
pub(crate) fn routes(shared: &Shared) -> Router<Shared> {
    let Some(options) = &shared.settings.gateway else {
        return Router::new().route(ROOT, any(off)).route("/rpc/{*method}", any(off));
    };
    let room = Arc::new(Semaphore::new(options.room()));
    let open = Open { handle: shared.handle.clone(), options: Arc::new(options.clone()), room };
    Router::new()
        .route(ROOT, get(listing::services).fallback(not_allowed))
        .route("/rpc/{*method}", get(listing::document).post(call::call).fallback(not_allowed))
        .layer(cors())
        .with_state(open)
}

/// Answers preflights, and lets pages of other origins read what they are answered. Every origin that gets
/// here is one that the gate has let through, so that this has no list of its own.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_methods([Method::GET, Method::POST])
        // Those of metadata have names that the caller chooses.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any)
        .max_age(PREFLIGHT_AGE)
}

/// Whether a path is the gateway's, so that errors are told in its way.
pub(crate) fn is_at(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a request is told that the gate does not let through.
pub(crate) fn forbidden(why: &str) -> Response {
    Failure::from(Status::refused(Code::PermissionDenied, why)).into_response()
}

async fn off() -> Response {
    let message =
        "calls by plain HTTP are off at this server: `Settings::gateway` of farcall-http turns them on";
    let status = Status::refused(Code::Unimplemented, message);
    Failure::new(StatusCode::NOT_FOUND, status).into_response()
}

async fn not_allowed(uri: Uri) -> Response {
    wrong_method(uri.path())
}

/// What is below is there to be called, but for the document.
fn wrong_method(path: &str) -> Response {
    let is_read = path == ROOT || path == DOCUMENT;
    let allowed = HeaderValue::from_static(if is_read { "GET, HEAD" } else { "POST" });
    let message = "a call is a POST, with its arguments in JSON: curl -d '{\"a\": 6, \"b\": 7}' \
                   http://host:port/rpc/Service.method; `GET /rpc` tells what there is to call";
    let status = Status::refused(Code::Unimplemented, message);
    let mut response = Failure::new(StatusCode::METHOD_NOT_ALLOWED, status).into_response();
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// Has the Rust of the page about it compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/CALLING.md")]
struct Document;
