//! The check that every request passes first: a well-formed URI, and a `Host` and an `Origin` that are allowed.
//!
//! Tokens are left to `auth`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Uri;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use farcall_web::{OriginCheck, OriginError};
use percent_encoding::percent_decode_str;

use super::error::HttpError;

/// The maximum length of path and query, in bytes: an id of 512 bytes, each percent-encoded, fits.
const MAX_URI: usize = 8 * 1024;

/// Passes on requests that are well-formed and meant for this registry.
pub(super) async fn check(State(origins): State<Arc<OriginCheck>>, request: Request, next: Next) -> Response {
    let checked = check_uri(request.uri()).and_then(|()| {
        origins.check(request.method(), request.uri(), request.headers()).map_err(HttpError::from)
    });
    match checked {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

impl From<OriginError> for HttpError {
    fn from(error: OriginError) -> Self {
        match error {
            OriginError::DuplicateHost | OriginError::HostNotText => Self::bad_request(error.to_string()),
            _ => Self::forbidden(error.to_string()),
        }
    }
}

fn check_uri(uri: &Uri) -> Result<(), HttpError> {
    let query = uri.query().unwrap_or_default();
    if uri.path().len() + query.len() > MAX_URI {
        return Err(HttpError::uri_too_long(format!("path and query are longer than {MAX_URI} bytes")));
    }
    // The router would take an empty part for an empty name.
    if uri.path().contains("//") || (uri.path().len() > 1 && uri.path().ends_with('/')) {
        return Err(HttpError::not_found(format!(
            "there is nothing at {}: a part of the path is empty",
            uri.path()
        )));
    }
    check_percent("path", uri.path())?;
    check_percent("query", query)
}

fn check_percent(part: &str, text: &str) -> Result<(), HttpError> {
    for (at, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let error = format!("the {part} has a `%` at byte {at} without two hexadecimal digits behind it");
            return Err(HttpError::bad_request(error));
        }
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(drop)
        .map_err(|_| HttpError::bad_request(format!("the {part} is not UTF-8 behind its percent signs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_paths_are_refused_with_the_position() {
        for (uri, part) in [
            ("/v1/%zz", "byte 4"),
            ("/v1/a%2", "byte 5"),
            ("/v1/%", "byte 4"),
            ("/v1/%ff", "UTF-8"),
            ("/v1?a=%", "query"),
        ] {
            let error = check_uri(&Uri::from_static(uri)).unwrap_err();
            assert!(error.message().contains(part), "{uri}: {}", error.message());
        }
        assert!(check_uri(&Uri::from_static("/v1/%2Frun%2Fa.sock?x=%20")).is_ok());
    }
}
