//! [`FullResponse`]: a response of the registry, read to its end.

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap};

/// A response with its whole body, of any status.
#[derive(Debug)]
pub(super) struct FullResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The forward proxy that may have answered in place of the registry, if one was asked.
    pub(super) proxy: Option<String>,
}

/// Returns `true` if `Content-Type` is `expected`, with or without parameters.
pub(super) fn has_content_type(headers: &HeaderMap, expected: &str) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().is_some_and(|given| given.trim().eq_ignore_ascii_case(expected))
}
