//! What all answers have in common: epoch and revision, errors as JSON, what is counted; and the
//! parts that handlers put answers together from.

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

use super::failure::Failure;
use crate::server::registry::Registry;
use crate::wire;

const EPOCH: HeaderName = HeaderName::from_static(wire::EPOCH);
const REV: HeaderName = HeaderName::from_static(wire::REV);
const WARMING: HeaderName = HeaderName::from_static(wire::WARMING);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// In the extensions of an answer that waited for a change: how long it took says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waited;

/// Around everything.
pub(super) async fn finish(State(registry): State<Registry>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let mut response = if response.status().is_client_error() || response.status().is_server_error() {
        error_as_json(&registry, response, method.as_str(), &path)
    } else {
        response
    };
    let took = response.extensions().get::<Waited>().is_none().then(|| began.elapsed());
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    registry.inner.metrics.answered(route, &method, response.status(), took);

    let (rev, warming) = registry.saved_state();
    let headers = response.headers_mut();
    headers.insert(EPOCH, registry.inner.epoch.clone());
    headers.insert(REV, HeaderValue::from(rev));
    if warming {
        headers.insert(WARMING, HeaderValue::from_static("1"));
    }
    // Whoever keeps an answer has to ask whether it still holds.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    response
}

/// `body` in an answer of the newest revision, with status 200.
pub(super) fn json<T: Serialize>(registry: &Registry, body: T) -> Response {
    let answer = {
        let store = registry.store();
        let (epoch, rev, warming) = (store.epoch().to_owned(), store.rev(), store.warming());
        wire::Answer { epoch, rev, warming, body }
    };
    object(&answer)
}

/// A JSON object as it is, with status 200.
pub(super) fn object<T: Serialize>(object: &T) -> Response {
    let text = serde_json::to_vec(object).expect("its keys are texts");
    ([(CONTENT_TYPE, JSON)], text).into_response()
}

/// A body that was serialized before, with the tag of its revision; 304 where the client has it.
pub(super) fn tagged(request: &HeaderMap, tag: &str, body: Bytes) -> Response {
    let Ok(tag_value) = HeaderValue::try_from(tag) else {
        return ([(CONTENT_TYPE, JSON)], body).into_response();
    };
    if has(request, tag) {
        return not_modified(tag_value);
    }
    ([(CONTENT_TYPE, JSON), (ETAG, tag_value)], body).into_response()
}

/// 304.
pub(super) fn not_modified(tag: HeaderValue) -> Response {
    (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response()
}

/// The tag of a list: it changes with the list, and with what is said of warming in it.
pub(super) fn tag(epoch: &str, rev: u64, warming: bool) -> String {
    let warming = if warming { "-warming" } else { "" };
    format!("\"{epoch}-{rev}{warming}\"")
}

/// Whether `If-None-Match` has this tag. Weak ones count: what is compared is whether to send.
fn has(request: &HeaderMap, tag: &str) -> bool {
    let values = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// Puts a JSON object in the place of the body, whoever made the error.
fn error_as_json(registry: &Registry, response: Response, method: &str, path: &str) -> Response {
    let (mut parts, _) = response.into_parts();
    let error = match parts.extensions.get::<Failure>() {
        Some(failure) => failure.error().to_owned(),
        None => router_error(parts.status, &parts.headers, method, path),
    };
    let body = json(registry, wire::Failure { error }).into_body();
    parts.headers.insert(CONTENT_TYPE, JSON);
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

/// What the router does not say itself.
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

/// An answer without a body, and no revision but the common one.
pub(super) fn no_content() -> Response {
    (StatusCode::NO_CONTENT, Body::empty()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_among_several_and_weak_ones() {
        let known = tag("e", 7, false);
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
            assert_eq!(has(&headers, &known), found, "{header}");
        }
    }
}
