//! [`Failure`]: an error response.

use std::borrow::Cow;

use axum::http::header::{HeaderName, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use farcall_discovery::InstanceError;

use crate::server::error::RegisterError;

/// An error response: status and message. It becomes JSON in [`response::finish`](super::response::finish), which knows
/// the epoch.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Failure {
    fn new(status: StatusCode, error: impl Into<Cow<'static, str>>) -> Self {
        Self { status, error: error.into(), header: None }
    }

    /// 400: the request is malformed.
    pub(super) fn bad_request(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// 401: there is no token, or an unknown one.
    pub(super) fn unauthorized(error: impl Into<Cow<'static, str>>) -> Self {
        let header = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"farcall-registry\""));
        Self { header: Some(header), ..Self::new(StatusCode::UNAUTHORIZED, error) }
    }

    /// 403: the sender is known and not allowed.
    pub(super) fn forbidden(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    /// 404: the path or the instance does not exist.
    pub(super) fn not_found(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// 408: the body took too long.
    pub(super) fn timeout(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, error)
    }

    /// 413: the body is too long.
    pub(super) fn too_large(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, error)
    }

    /// 414: path and query are too long.
    pub(super) fn uri_too_long(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::URI_TOO_LONG, error)
    }

    /// 429: a limit is reached.
    pub(super) fn too_many(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, error)
    }

    /// 503: the registry cannot serve the request now.
    pub(super) fn unavailable(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }

    /// Returns `true` for a 413.
    pub(super) fn is_too_large(&self) -> bool {
        self.status == StatusCode::PAYLOAD_TOO_LARGE
    }

    /// The message.
    pub(super) fn error(&self) -> &str {
        &self.error
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.headers_mut().extend(self.header.clone());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<InstanceError> for Failure {
    fn from(error: InstanceError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<RegisterError> for Failure {
    fn from(error: RegisterError) -> Self {
        match &error {
            RegisterError::Instance(_) => Self::bad_request(error.to_string()),
            RegisterError::Full(_) => Self::too_many(error.to_string()),
        }
    }
}
