//! Responses: the headers, the JSON errors and the metrics that all of them have, and constructors for handlers.

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::error::HttpError;
use crate::server::state::{RegistryState, SharedState};
use crate::server::store::{Document, MAX_PART_BYTES};
use crate::wire;

const EPOCH: HeaderName = HeaderName::from_static(wire::EPOCH);
const REV: HeaderName = HeaderName::from_static(wire::REV);
const WARMING: HeaderName = HeaderName::from_static(wire::WARMING);
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Marks, as an extension, a response that may have waited for a change: its duration is not recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct LongPoll;

/// Completes every response. The outermost layer.
pub(super) async fn finish(State(registry): State<SharedState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let mut response = if response.status().is_client_error() || response.status().is_server_error() {
        error_as_json(&registry, response, method.as_str(), &path)
    } else {
        response
    };
    let took = response.extensions().get::<LongPoll>().is_none().then(|| began.elapsed());
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    registry.metrics.record_request(route, &method, response.status(), took);

    let (rev, warming) = registry.store.rev_and_warming();
    let headers = response.headers_mut();
    headers.insert(EPOCH, registry.epoch.clone());
    headers.insert(REV, HeaderValue::from(rev));
    if warming {
        headers.insert(WARMING, HeaderValue::from_static("1"));
    }
    // Caches must revalidate a stored response.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    response
}

/// Returns `body` in an [`Envelope`](wire::Envelope) of the newest revision, with status 200.
pub(super) fn json<T: Serialize>(registry: &RegistryState, body: T) -> Response {
    ([(CONTENT_TYPE, JSON)], envelope(registry, body)).into_response()
}

/// Returns `body` in an [`Envelope`](wire::Envelope) of the newest revision, as JSON.
pub(super) fn envelope<T: Serialize>(registry: &RegistryState, body: T) -> Vec<u8> {
    let (rev, warming) = registry.store.rev_and_warming();
    let epoch = registry.epoch.to_str().unwrap_or_default().to_owned();
    let envelope = wire::Envelope { epoch, rev, warming, body };
    serde_json::to_vec(&envelope).expect("all keys are strings")
}

/// Returns a JSON object without an envelope, with status 200.
pub(super) fn object<T: Serialize>(object: &T) -> Response {
    let text = serde_json::to_vec(object).expect("all keys are strings");
    ([(CONTENT_TYPE, JSON)], text).into_response()
}

/// Returns a list with the ETag of its revision, status 200.
pub(super) fn tagged(registry: &RegistryState, tag: &str, list: Document) -> Response {
    let size = list.size();
    let mut response = ([(CONTENT_TYPE, JSON)], body(registry, list)).into_response();
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    if let Some(size) = size {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    }
    response
}

/// Returns a body that makes the document's parts when they are sent, with a chance for other tasks in between.
fn body(registry: &RegistryState, document: Document) -> Body {
    if document.size().is_some_and(|size| size <= MAX_PART_BYTES) {
        return Body::from(document.parts().fold(Vec::new(), |mut whole, part| {
            whole.extend_from_slice(&part);
            whole
        }));
    }
    let reader = registry.readers.open(document);
    Body::from_stream(stream::unfold((reader, false), |(mut reader, began)| async move {
        if began {
            // The connection writes what it has: it should hold one part, and other requests should not wait for all.
            yield_now().await;
        }
        Some((reader.next()?, (reader, true)))
    }))
}

/// Returns status 304.
pub(super) fn not_modified(tag: String) -> Response {
    let tag = HeaderValue::try_from(tag).expect("an ETag is hexadecimal and digits");
    (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response()
}

/// Returns the ETag of a list. It changes with the list, and with its field `warming`.
pub(super) fn etag(epoch: &str, rev: u64, warming: bool) -> String {
    let warming = if warming { "-warming" } else { "" };
    format!("\"{epoch}-{rev}{warming}\"")
}

/// Returns `true` if `If-None-Match` has this ETag. Weak comparison, as RFC 9110 requires for this header.
pub(super) fn matches_etag(request: &HeaderMap, tag: &str) -> bool {
    let values = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// Replaces the body of an error, made by a handler or by the router, with a JSON object.
fn error_as_json(registry: &RegistryState, response: Response, method: &str, path: &str) -> Response {
    let (mut parts, _) = response.into_parts();
    let error = match parts.extensions.get::<HttpError>() {
        Some(error) => error.message().to_owned(),
        None => router_error(parts.status, method, path),
    };
    let body = json(registry, wire::ErrorBody { error }).into_body();
    parts.headers.insert(CONTENT_TYPE, JSON);
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

/// Returns the message for an error that the router made without a body.
fn router_error(status: StatusCode, method: &str, path: &str) -> String {
    // Both may be as long as a head.
    let method: String = method.chars().take(40).collect();
    let path: String = path.chars().take(200).collect();
    match status {
        StatusCode::NOT_FOUND => format!("there is nothing at {path}"),
        // The router adds it behind all layers.
        StatusCode::METHOD_NOT_ALLOWED => {
            format!("{method} is not allowed at {path}; the header `Allow` says what is")
        }
        _ => format!("{method} {path}: {status}"),
    }
}

/// Returns status 204, without a body.
pub(super) fn no_content() -> Response {
    (StatusCode::NO_CONTENT, Body::empty()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_may_have_several_and_weak_etags() {
        let current = etag("e", 7, false);
        for (header, found) in [
            ("\"e-7\"", true),
            ("\"e-6\", W/\"e-7\"", true),
            ("*", true),
            ("\"e-70\"", false),
            ("e-7", false),
            ("\"e-7-warming\"", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static(header));
            assert_eq!(matches_etag(&headers, &current), found, "{header}");
        }
    }
}
