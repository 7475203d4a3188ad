//! [`Failure`]: an error response of the gateway, one JSON object with code, message and execution.

use axum::http::StatusCode;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use farcall_protocol::{Code, EscapedText, Execution, MAX_PEER_TEXT, Status, truncate};
use serde::Serialize;
use serde_json::value::RawValue;

/// The longest part of a header that is quoted, in bytes.
const MAX_QUOTED: usize = 40;

/// An error response: an HTTP status, and a farcall status in its body.
#[derive(Debug)]
pub(super) struct Failure {
    http: StatusCode,
    status: Box<Status>,
    /// `true` if the request had a token, which was not accepted then.
    had_token: bool,
}

/// The error in the body of a response.
#[derive(Serialize)]
struct ErrorObject<'a> {
    code: &'static str,
    message: &'a str,
    execution: &'static str,
    /// The method's own error, as it was encoded.
    details: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    resume: bool,
}

impl Failure {
    /// Creates an error with this HTTP status in place of the one of its code.
    pub(super) fn new(http: StatusCode, status: Status) -> Self {
        Self { http, status: Box::new(status), had_token: false }
    }

    /// Creates an error for a malformed request.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Status::refused(Code::InvalidArgument, message).into()
    }

    /// Creates an error for a body in an encoding such as gzip.
    pub(super) fn unsupported_encoding(encoding: &str) -> Self {
        let encoding = EscapedText(truncate(encoding, MAX_QUOTED));
        let message = format!("the body is compressed ({encoding}): send it without a Content-Encoding");
        let status = Status::refused(Code::InvalidArgument, message);
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, status)
    }

    /// Sets whether the request had a token.
    pub(super) const fn with_token(mut self, had_token: bool) -> Self {
        self.had_token = had_token;
        self
    }

    /// Tells that the method had begun.
    pub(super) fn after_begin(mut self) -> Self {
        self.status.execution = Execution::Maybe;
        self
    }

    /// Returns the error in JSON, as it is in the body of a response and in the last line of a stream; `details` is the
    /// method's own error in JSON, or empty. `resume` tells that the call may go on at another server.
    pub(super) fn json(&self, details: &[u8], resume: bool) -> Vec<u8> {
        let details = serde_json::from_slice(details).ok();
        let Status { code, message, execution, .. } = &*self.status;
        let message = truncate(message, MAX_PEER_TEXT);
        let error = ErrorObject { code: code.name(), message, execution: execution.name(), details, resume };
        // Texts and what was parsed before can be encoded.
        serde_json::to_vec(&error).unwrap_or_default()
    }

    /// Creates the response; `details` is the method's own error in JSON, or empty.
    pub(super) fn response(&self, details: &[u8]) -> Response {
        let body = [b"{\"error\":", &self.json(details, false)[..], b"}"].concat();
        let json = [(CONTENT_TYPE, "application/json")];
        let mut response = (self.http, response_headers(), json, body).into_response();
        if self.http == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            // RFC 9110, section 15.5.16: what would be accepted.
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if self.http == StatusCode::UNAUTHORIZED {
            // RFC 6750, section 3.1: no error code for a request without a token.
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
        self.response(b"")
    }
}

/// Returns the HTTP status of a farcall code.
fn http_status(code: Code) -> StatusCode {
    match code {
        // nginx's "client closed request", which other gateways use, too.
        Code::Cancelled => StatusCode::from_u16(499).expect("it has three digits"),
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        // The path names the method: nothing is there.
        Code::Unimplemented => StatusCode::NOT_FOUND,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // Request and server are fine: the method itself failed.
        Code::Application => StatusCode::UNPROCESSABLE_ENTITY,
        // Codes of later versions count as `internal`.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns the headers that all responses have: none may be cached.
pub(super) fn response_headers() -> [(HeaderName, HeaderValue); 2] {
    let value = HeaderValue::from_static;
    [(CACHE_CONTROL, value("no-store")), (X_CONTENT_TYPE_OPTIONS, value("nosniff"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_http_status() {
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
}
