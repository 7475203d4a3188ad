//! Responses: the headers, the JSON errors and the metrics that all of them have, and constructors for handlers.

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use super::error::HttpError;
use crate::server::state::{RegistryState, SharedState};
use crate::wire;

const EPOCH: HeaderName = HeaderName::from_static(wire::EPOCH);
const REV: HeaderName = HeaderName::from_static(wire::REV);
const WARMING: HeaderName = HeaderName::from_static(wire::WARMING);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

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

    let version = registry.store.version();
    let headers = response.headers_mut();
    headers.insert(EPOCH, registry.epoch.clone());
    headers.insert(REV, HeaderValue::from(version.rev));
    if version.warming {
        headers.insert(WARMING, HeaderValue::from_static("1"));
    }
    // Caches must revalidate a stored response.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    response
}

/// Returns `body` in an [`Envelope`](wire::Envelope) of the newest revision, with status 200.
pub(super) fn json<T: Serialize>(registry: &RegistryState, body: T) -> Response {
    let envelope = {
        let store = registry.store.lock();
        let (epoch, rev, warming) = (store.epoch().to_owned(), store.rev(), store.is_warming());
        wire::Envelope { epoch, rev, warming, body }
    };
    object(&envelope)
}

/// Returns a JSON object without an envelope, with status 200.
pub(super) fn object<T: Serialize>(object: &T) -> Response {
    let text = serde_json::to_vec(object).expect("all keys are strings");
    ([(CONTENT_TYPE, JSON)], text).into_response()
}

/// Returns a serialized body with the ETag of its revision, or status 304 if the client has that revision.
pub(super) fn tagged(request: &HeaderMap, tag: &str, body: Bytes) -> Response {
    let Ok(tag_value) = HeaderValue::try_from(tag) else {
        return ([(CONTENT_TYPE, JSON)], body).into_response();
    };
    if matches_etag(request, tag) {
        return not_modified(tag_value);
    }
    ([(CONTENT_TYPE, JSON), (ETAG, tag_value)], body).into_response()
}

/// Returns status 304.
pub(super) fn not_modified(tag: HeaderValue) -> Response {
    (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response()
}

/// Returns the ETag of a list. It changes with the list, and with its field `warming`.
pub(super) fn etag(epoch: &str, rev: u64, warming: bool) -> String {
    let warming = if warming { "-warming" } else { "" };
    format!("\"{epoch}-{rev}{warming}\"")
}

/// Returns `true` if `If-None-Match` has this ETag. Weak comparison, as RFC 9110 requires for this header.
fn matches_etag(request: &HeaderMap, tag: &str) -> bool {
    let values = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// Replaces the body of an error, made by a handler or by the router, with a JSON object.
fn error_as_json(registry: &RegistryState, response: Response, method: &str, path: &str) -> Response {
    let (mut parts, _) = response.into_parts();
    let error = match parts.extensions.get::<HttpError>() {
        Some(error) => error.message().to_owned(),
        None => router_error(parts.status, &parts.headers, method, path),
    };
    let body = json(registry, wire::ErrorBody { error }).into_body();
    parts.headers.insert(CONTENT_TYPE, JSON);
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

/// Returns the message for an error that the router made without a body.
fn router_error(status: StatusCode, headers: &HeaderMap, method: &str, path: &str) -> String {
    let path: String = path.chars().take(200).collect();
    match status {
        StatusCode::NOT_FOUND => format!("there is nothing at {path}"),
        StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = headers.get(ALLOW).and_then(|allowed| allowed.to_str().ok()).unwrap_or("nothing");
            format!("{method} is not allowed at {path}; allowed is {allowed}")
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
