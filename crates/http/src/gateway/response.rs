//! Responses of the gateway: results as they are, metadata as headers. Errors are in `failure`.

use axum::body::{Body, Bytes};
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use farcall_protocol::limits::MAX_HEADER_BYTES;
use farcall_protocol::metadata::RETRY_AFTER_MS;
use farcall_protocol::{Code, Metadata, Status};

use super::failure::{Failure, response_headers};
use super::head::{META_PREFIX, encoded_len};
use super::state::{DOCUMENT, ROOT};

/// The most bytes of metadata that a response's head carries: nginx refuses heads of more than 4 KiB by default, and the
/// other headers need a part of it.
const MAX_META_BYTES: usize = 2 * 1024;
/// The response header with the number of pairs of metadata that were left out, because together they are too long.
const META_OMITTED: HeaderName = HeaderName::from_static("farcall-meta-omitted");

/// Creates the response to a call.
pub(super) fn call_response(outcome: &farcall_server::Response, had_token: bool) -> Response {
    call_response_with(outcome, outcome.body(), had_token)
}

/// Creates the response to a call. `body` is that of the outcome, counted until it was sent.
pub(super) fn call_response_with(
    outcome: &farcall_server::Response,
    body: Bytes,
    had_token: bool,
) -> Response {
    let metadata = outcome.metadata();
    if metadata.is_some_and(|metadata| encoded_len(metadata) > MAX_HEADER_BYTES) {
        let message = format!("the answer's metadata is over the limit of {MAX_HEADER_BYTES} bytes");
        return Failure::from(Status::done(Code::ResourceExhausted, message)).into_response();
    }
    let mut response = match outcome.status() {
        Some(status) => Failure::from(status.clone()).with_token(had_token).response(&body),
        // A user's own handler may return an empty body.
        None if body.is_empty() => json_response(Body::from("null")),
        None => json_response(Body::from(body)),
    };
    if let Some(metadata) = metadata {
        add_metadata(response.headers_mut(), metadata);
    }
    response
}

/// Creates a response with a result in JSON.
pub(super) fn json_response(body: Body) -> Response {
    (response_headers(), [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Creates the response to a method that the path doesn't support. Every path below [`ROOT`] is a call,
/// except the document.
pub(super) fn method_not_allowed(path: &str) -> Response {
    let is_read = path == ROOT || path == DOCUMENT;
    let allowed = HeaderValue::from_static(if is_read { "GET, HEAD" } else { "POST" });
    let message = "a call is a POST, with its arguments in JSON: curl -d '{\"a\": 6, \"b\": 7}' \
                   http://host:port/rpc/Service.method; `GET /rpc` lists the services";
    let status = Status::refused(Code::Unimplemented, message);
    let mut response = Failure::new(StatusCode::METHOD_NOT_ALLOWED, status).into_response();
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// Adds metadata as headers. A pair that no header can carry, such as one with a line break, is left out; where all are
/// too long together, all are, and [`META_OMITTED`] says how many.
fn add_metadata(headers: &mut HeaderMap, metadata: &Metadata) {
    let mut bytes = 0;
    let mut pairs = Vec::new();
    for (key, value) in metadata.iter() {
        let name = HeaderName::try_from(format!("{META_PREFIX}{key}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            bytes += name.as_str().len() + value.len() + ": \r\n".len();
            pairs.push((name, value));
        }
    }
    if bytes > MAX_META_BYTES {
        headers.insert(META_OMITTED, HeaderValue::from(pairs.len()));
    } else {
        headers.extend(pairs);
    }
    // The same as HTTP's own header, which counts in seconds.
    let wait_ms: Option<u64> = metadata.get(RETRY_AFTER_MS).and_then(|value| value.parse().ok());
    if let Some(wait_ms) = wait_ms {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1000)));
    }
}

#[cfg(test)]
mod tests {
    use farcall_protocol::Codec;

    use super::*;

    #[test]
    fn metadata_that_fits_no_header_is_left_out() {
        let mut metadata = Metadata::new();
        for (key, value) in [
            ("shard", "7"),
            ("name", "Zoë"),
            ("lines", "a\r\nset-cookie: b"),
            ("a:b", "c"),
            (RETRY_AFTER_MS, "1001"),
        ] {
            metadata.insert(key, value).unwrap();
        }
        let mut headers = HeaderMap::new();
        add_metadata(&mut headers, &metadata);
        let text = |name: &str| {
            headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        assert_eq!(text("farcall-meta-shard").as_deref(), Some("7"));
        assert_eq!(text("farcall-meta-name").as_deref(), Some("Zoë"));
        assert_eq!(text("retry-after").as_deref(), Some("2"));
        assert_eq!(headers.len(), 4, "{headers:?}");
    }

    #[test]
    fn metadata_that_fits_no_head_is_left_out_and_counted() {
        let with = |value: usize| {
            let mut metadata = Metadata::new();
            metadata.insert("a", "x".repeat(value)).unwrap();
            metadata.insert("b", "y").unwrap();
            let mut headers = HeaderMap::new();
            add_metadata(&mut headers, &metadata);
            headers
        };
        // Two names of 14 bytes, with `: ` and a line break, and one value of a byte.
        let most = MAX_META_BYTES - 2 * (14 + 4) - 1;
        let headers = with(most);
        assert_eq!((headers.len(), headers["farcall-meta-a"].len()), (2, most));
        let headers = with(most + 1);
        assert_eq!((headers.len(), &headers[META_OMITTED]), (1, &HeaderValue::from(2)));
    }

    #[test]
    fn answer_whose_metadata_is_over_the_limit_is_an_error() {
        let answer = |value: usize| {
            let mut metadata = Metadata::new();
            metadata.insert("a", "x".repeat(value)).unwrap();
            let len = encoded_len(&metadata);
            let outcome = farcall_server::Response::ok(&Codec::Json, &7).with_metadata(metadata);
            (len, call_response(&outcome, false).status())
        };
        let most = MAX_HEADER_BYTES - answer(0).0;
        assert_eq!(answer(most), (MAX_HEADER_BYTES, StatusCode::OK));
        assert_eq!(answer(most + 1).1, StatusCode::TOO_MANY_REQUESTS);
    }
}
