//! `/debug/farcall`: a page about the activity of this process.
//!
//! The page is one document ([`page`]) that polls a snapshot ([`snapshot`]). Access to both is decided
//! here ([`access`]); the data comes from the server and the channels.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use farcall_server::ServerHandle;

pub use self::access::DebugPage;
use self::snapshot::{Detail, Snapshot};
use crate::options::HttpOptions;
use crate::text_response::text_response;

mod access;
mod page;
mod snapshot;

/// Returns the routes of the page and its data; none if the page is off.
pub(crate) fn routes<S>(handle: Option<ServerHandle>, options: &HttpOptions) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let access = options.debug_page;
    if access == DebugPage::Off {
        return Router::new();
    }
    let check = move |request: Request, next: Next| async move {
        match access.check(&request) {
            Ok(()) => next.run(request).await,
            Err(reason) => text_response(StatusCode::FORBIDDEN, &reason),
        }
    };
    Router::new()
        .route("/debug/farcall", get(async || page::page()))
        .route("/debug/farcall/", get(async || page::page()))
        .route("/debug/farcall/overview.json", get(overview))
        // Only for these routes: an unknown path is 404 for every client.
        .route_layer(from_fn(check))
        .with_state(Arc::new(Snapshot::new(handle, options)))
}

/// Answers `GET /debug/farcall/overview.json`; with `?brief`, without the parts that change rarely.
async fn overview(State(snapshot): State<Arc<Snapshot>>, uri: Uri) -> Response {
    let detail = if uri.query() == Some("brief") { Detail::Brief } else { Detail::Full };
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, snapshot.json(detail).await).into_response()
}
