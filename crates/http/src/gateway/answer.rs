//! Answers of the gateway: results as they are, errors as one object, metadata as headers.

use axum::Json;
use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use farcall_protocol::limits::MAX_HEADER_BYTES;
use farcall_protocol::metadata::RETRY_AFTER_MS;
use farcall_protocol::{Code, MAX_PEER_TEXT, Metadata, Status, truncate};
use serde::Serialize;
use serde_json::value::RawValue;

use super::head::{META_PREFIX, encoded_len};

/// A request that is answered with an error.
#[derive(Debug)]
pub(super) struct Failure {
    http: StatusCode,
    status: Box<Status>,
    /// Whether it had a token with it, which was not good enough then.
    had_token: bool,
}

/// The body of an answer that is an error.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    code: &'static str,
    message: &'a str,
    execution: &'static str,
    /// What the method's own error says, as it was encoded.
    details: Option<&'a RawValue>,
}

impl Failure {
    /// An error with another HTTP status than its code's.
    pub(super) fn new(http: StatusCode, status: Status) -> Self {
        Self { http, status: Box::new(status), had_token: false }
    }

    /// The request is not as the gateway takes it.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Status::refused(Code::InvalidArgument, message).into()
    }

    pub(super) const fn with_token(mut self, had_token: bool) -> Self {
        self.had_token = had_token;
        self
    }

    fn answer(&self, details: &[u8]) -> Response {
        let details = serde_json::from_slice(details).ok();
        let Status { code, message, execution } = &*self.status;
        let message = truncate(message, MAX_PEER_TEXT);
        let error = ErrorObject { code: code.name(), message, execution: execution.name(), details };
        let mut response = (self.http, headers(), Json(ErrorBody { error })).into_response();
        if self.http == StatusCode::UNAUTHORIZED {
            // RFC 6750, section 3.1: who came without a token is not told what is wrong with it.
            let challenge = if self.had_token { "Bearer error=\"invalid_token\"" } else { "Bearer" };
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::new(http_status(status.code), status)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.answer(b"")
    }
}

/// What HTTP says where farcall says this.
fn http_status(code: Code) -> StatusCode {
    match code {
        // nginx's "client closed request", which is what others answer for it, too.
        Code::Cancelled => StatusCode::from_u16(499).expect("it has three digits"),
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        // The method is what the path names: there is nothing there.
        Code::Unimplemented => StatusCode::NOT_FOUND,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // The request was right and the server is well: what failed is what it asked for.
        Code::Application => StatusCode::UNPROCESSABLE_ENTITY,
        // Codes of later versions count as `internal`.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer of a call.
pub(super) fn of_call(called: &farcall_server::Response, had_token: bool) -> Response {
    let metadata = called.metadata();
    if metadata.is_some_and(|metadata| encoded_len(metadata) > MAX_HEADER_BYTES) {
        let message = format!("the answer's metadata is over the limit of {MAX_HEADER_BYTES} bytes");
        return Failure::from(Status::done(Code::ResourceExhausted, message)).into_response();
    }
    let mut response = match called.status() {
        Some(status) => Failure::from(status.clone()).with_token(had_token).answer(&called.body()),
        // What a handler of the user's own makes may be nothing at all.
        None if called.body().is_empty() => result(Body::from("null")),
        None => result(Body::from(called.body())),
    };
    if let Some(metadata) = metadata {
        add_metadata(response.headers_mut(), metadata);
    }
    response
}

/// A result in JSON.
pub(super) fn result(body: Body) -> Response {
    (headers(), [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// What all answers have: each is for whoever asked, and for once.
fn headers() -> [(HeaderName, HeaderValue); 2] {
    let value = HeaderValue::from_static;
    [(CACHE_CONTROL, value("no-store")), (X_CONTENT_TYPE_OPTIONS, value("nosniff"))]
}

/// Adds metadata as headers. A pair that none can carry, one with a line break in it say, is left out.
fn add_metadata(headers: &mut HeaderMap, metadata: &Metadata) {
    for (key, value) in metadata.iter() {
        let name = HeaderName::try_from(format!("{META_PREFIX}{key}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.insert(name, value);
        }
    }
    // The same in HTTP's own words, which counts in seconds.
    let wait_ms: Option<u64> = metadata.get(RETRY_AFTER_MS).and_then(|value| value.parse().ok());
    if let Some(wait_ms) = wait_ms {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1000)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_that_fits() {
        let statuses = Code::ALL.map(|code| (code.name(), http_status(code).as_u16()));
        let expected = [
            ("cancelled", 499),
            ("deadline_exceeded", 504),
            ("invalid_argument", 400),
            ("unauthenticated", 401),
            ("unimplemented", 404),
            ("permission_denied", 403),
            ("resource_exhausted", 429),
            ("unavailable", 503),
            ("internal", 500),
            ("application", 422),
        ];
        assert_eq!(statuses, expected);
    }

    #[test]
    fn metadata_that_no_header_can_carry_is_left_out() {
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
}
