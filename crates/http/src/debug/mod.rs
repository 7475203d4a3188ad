//! `/debug/farcall`: what this process is doing, as a page.
//!
//! The page is one document ([`page`]) that asks for the figures again and again ([`figures`]). Who
//! may see either is decided here ([`access`]); what the figures are, by the server and the channels.

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
use self::figures::{Detail, Figures};
use crate::answer::sentence;
use crate::options::HttpOptions;

mod access;
mod figures;
mod page;

/// The page, and what it reads; nothing where it is off.
pub(crate) fn routes<S>(handle: Option<ServerHandle>, settings: &HttpOptions) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let access = settings.debug_page;
    if access == DebugPage::Off {
        return Router::new();
    }
    let check = move |request: Request, next: Next| async move {
        match access.check(&request) {
            Ok(()) => next.run(request).await,
            Err(why) => sentence(StatusCode::FORBIDDEN, &why),
        }
    };
    Router::new()
        .route("/debug/farcall", get(async || page::page()))
        .route("/debug/farcall/", get(async || page::page()))
        .route("/debug/farcall/overview.json", get(overview))
        // Only for these: what there is not is not there for anybody.
        .route_layer(from_fn(check))
        .with_state(Arc::new(Figures::new(handle, settings)))
}

/// `GET /debug/farcall/overview.json`; with `?brief` without what changes seldom.
async fn overview(State(figures): State<Arc<Figures>>, uri: Uri) -> Response {
    let extent = if uri.query() == Some("brief") { Detail::Brief } else { Detail::Full };
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, figures.json(extent).await).into_response()
}
