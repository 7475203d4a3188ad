//! Authentication and authorization by bearer tokens. Handlers ask [`Caller`] for the right to write.

use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::HttpError;
use crate::server::state::SharedState;
use crate::server::tokens::{Rights, Write};

/// The sender's rights: an extension of each request that has passed [`check`].
#[derive(Clone, Debug)]
pub(super) struct Caller(Rights);

/// Refuses requests that the sender may not make: reads without the right to read, writes without the right to write to
/// any service.
pub(super) async fn check(State(registry): State<SharedState>, mut request: Request, next: Next) -> Response {
    let token = match bearer(&request) {
        Ok(token) => token,
        Err(error) => return error.into_response(),
    };
    let rights = registry.tokens().rights(token);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let allowed = match &rights.write {
        _ if reads => rights.read,
        Write::All => true,
        Write::Services(services) => !services.is_empty(),
    };
    if allowed {
        request.extensions_mut().insert(Caller(rights));
        return next.run(request).await;
    }
    let action = if reads { "reading" } else { "writing" };
    match (rights.known, token.is_some()) {
        (true, _) => HttpError::forbidden("this token allows reading only"),
        (false, true) => {
            HttpError::unauthorized(format!("the token in `Authorization` does not allow {action}"))
        }
        (false, false) => {
            HttpError::unauthorized(format!("{action} needs a token: `Authorization: Bearer TOKEN`"))
        }
    }
    .into_response()
}

impl Caller {
    /// Checks the right to register, renew and remove instances of this service.
    pub(super) fn check_write(&self, service: &str) -> Result<(), HttpError> {
        match &self.0.write {
            Write::All => Ok(()),
            Write::Services(services) if services.contains(service) => Ok(()),
            Write::Services(_) => {
                let error = format!("this token does not allow writing to the service `{service}`");
                Err(HttpError::forbidden(error))
            }
        }
    }

    /// Checks the right to override what servers register.
    pub(super) fn check_override(&self) -> Result<(), HttpError> {
        match self.0.write {
            Write::All => Ok(()),
            Write::Services(_) => {
                Err(HttpError::forbidden("overriding needs the write token, not a service's"))
            }
        }
    }
}

/// Returns the bearer token; `None` if there is no header `Authorization`.
fn bearer(request: &Request) -> Result<Option<&str>, HttpError> {
    let Some(value) = request.headers().get(AUTHORIZATION) else { return Ok(None) };
    let malformed = || HttpError::unauthorized("`Authorization` must be `Bearer TOKEN`");
    let (scheme, token) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(malformed()) }
}
