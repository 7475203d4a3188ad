//! The token of the registration that a request makes, renews or ends: a header, or a field of the body.

use axum::http::HeaderMap;
use serde::Deserialize;

use super::error::HttpError;
use crate::wire::{self, RegistrationToken};

/// Returns the token; `None` if the request has none.
pub(super) fn of(headers: &HeaderMap, body: &[u8]) -> Result<Option<RegistrationToken>, HttpError> {
    #[derive(Deserialize)]
    struct Body {
        token: Option<String>,
    }
    let mut values = headers.get_all(wire::TOKEN).iter();
    let in_header = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => Some(value.to_str().unwrap_or_default().to_owned()),
        (Some(_), Some(_)) => {
            return Err(HttpError::bad_request("the header `X-Farcall-Token` occurs more than once"));
        }
    };
    // The body of a heartbeat or a removal may be anything else.
    let in_body = serde_json::from_slice::<Body>(body).ok().and_then(|body| body.token);
    if let (Some(header), Some(body)) = (&in_header, &in_body)
        && header != body
    {
        return Err(HttpError::bad_request("the header `X-Farcall-Token` and the body's `token` differ"));
    }
    let token = in_header.or(in_body).map(|token| RegistrationToken::parse(&token)).transpose();
    token.map_err(|error| HttpError::bad_request(error.to_string()))
}
