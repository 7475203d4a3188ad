//! [`HttpError`]: an error response.

use std::borrow::Cow;

use axum::http::header::{HeaderName, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use farcall_discovery::InstanceError;

use crate::server::error::RegisterError;

/// An error response: status and message. It becomes JSON in [`response::finish`](super::response::finish), which knows
/// the epoch.
#[derive(Clone, Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    message: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl HttpError {
    fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), header: None }
    }

    /// 400: the request is malformed.
    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 401: there is no token, or an unknown one.
    pub(super) fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        let header = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"farcall-registry\""));
        Self { header: Some(header), ..Self::new(StatusCode::UNAUTHORIZED, message) }
    }

    /// 403: the sender is known and not allowed.
    pub(super) fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404: the path or the instance does not exist.
    pub(super) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 408: the body took too long.
    pub(super) fn timeout(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, message)
    }

    /// 413: the body is too long.
    pub(super) fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// 414: path and query are too long.
    pub(super) fn uri_too_long(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::URI_TOO_LONG, message)
    }

    /// 429: a limit is reached.
    pub(super) fn too_many(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, message)
    }

    /// 503: the registry cannot serve the request now.
    pub(super) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// Returns `true` for 413 and 429: a limit was reached before the request was read.
    pub(super) fn is_limit(&self) -> bool {
        matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS)
    }

    /// The message.
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.headers_mut().extend(self.header.clone());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<InstanceError> for HttpError {
    fn from(error: InstanceError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<RegisterError> for HttpError {
    fn from(error: RegisterError) -> Self {
        match &error {
            RegisterError::Instance(_) => Self::bad_request(error.to_string()),
            RegisterError::Full(_) => Self::too_many(error.to_string()),
        }
    }
}
