//! `/rpc`: calls by plain HTTP, with JSON bodies, and the list of services. The server runs a call like one
//! that came over a connection, and decides who may make it.
//!
//! The router's origin check comes first: it lets no foreign web page through.

mod accept;
mod answers;
mod body;
mod call;
mod failure;
mod head;
mod lines;
mod listing;
mod openapi;
mod openapi_stream;
mod options;
mod response;
mod state;
mod stream_body;
mod stream_call;
mod stream_text;
mod upload;

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::ACCESS_CONTROL_REQUEST_HEADERS;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use farcall_protocol::{Code, Status};
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use self::failure::Failure;
pub use self::options::Gateway;
use self::response::method_not_allowed;
use self::state::{GatewayState, ROOT};
use crate::state::HttpState;

/// The time for which a browser may cache the answer to a preflight, which saves one before each call.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);
/// The most bytes of header names in a preflight, which the answer repeats: proxies refuse heads of more than 4 KiB.
const MAX_PREFLIGHT_BYTES: usize = 2 * 1024;

/// Returns the gateway's routes; if it is off, they answer how to enable it.
pub(crate) fn routes(state: &HttpState) -> Router<HttpState> {
    let Some(options) = &state.options.gateway else {
        return Router::new().route(ROOT, any(off)).route("/rpc/{*method}", any(off));
    };
    Router::new()
        .route(ROOT, get(listing::services).fallback(wrong_method))
        .route("/rpc/{*method}", get(listing::document).post(call::call).fallback(wrong_method))
        .layer(cors())
        .layer(from_fn(limit_preflight))
        .with_state(GatewayState::new(state.handle.clone(), options))
}

/// Answers preflights, and lets pages of other origins read the responses. There is no list of origins here:
/// the origin check has refused all others before.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_methods([Method::GET, Method::POST])
        // The caller chooses the names of metadata headers.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any)
        .max_age(PREFLIGHT_AGE)
}

/// Refuses preflights whose answers would have too large a head.
async fn limit_preflight(request: Request, next: Next) -> Response {
    let names = request.headers().get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    if names.map(|names| names.len() + 2).sum::<usize>() <= MAX_PREFLIGHT_BYTES {
        return next.run(request).await;
    }
    let message = format!(
        "the names in `Access-Control-Request-Headers` have more than {MAX_PREFLIGHT_BYTES} bytes, the limit"
    );
    let status = Status::refused(Code::ResourceExhausted, message);
    Failure::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, status).into_response()
}

/// Returns `true` if the path is the gateway's, whose errors have their own form.
pub(crate) fn is_at(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Creates the response to a request that the origin check refused.
pub(crate) fn forbidden(reason: &str) -> Response {
    Failure::from(Status::refused(Code::PermissionDenied, reason)).into_response()
}

async fn off() -> Response {
    let message = "calls by plain HTTP are disabled on this server: `HttpOptions::gateway` of farcall-http enables them";
    let status = Status::refused(Code::Unimplemented, message);
    Failure::new(StatusCode::NOT_FOUND, status).into_response()
}

async fn wrong_method(uri: Uri) -> Response {
    method_not_allowed(uri.path())
}
