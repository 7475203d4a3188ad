//! Tokens: who may read, who may write what. [`Caller`] is what handlers ask.

use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use crate::server::registry::Registry;
use crate::server::tokens::{Rights, Write};

/// Whoever sent the request, past [`check`]. In the request's extensions.
#[derive(Clone, Debug)]
pub(super) struct Caller(Rights);

/// Lets through who may read, or may write at least something.
pub(super) async fn check(State(registry): State<Registry>, mut request: Request, next: Next) -> Response {
    let token = match bearer(&request) {
        Ok(token) => token,
        Err(failure) => return failure.into_response(),
    };
    let rights = registry.tokens().rights(token);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let may = match &rights.write {
        _ if reads => rights.read,
        Write::All => true,
        Write::Services(services) => !services.is_empty(),
    };
    if may {
        request.extensions_mut().insert(Caller(rights));
        return next.run(request).await;
    }
    let what = if reads { "reading" } else { "writing" };
    match (rights.known, token.is_some()) {
        (true, _) => Failure::forbidden("this token allows reading only"),
        (false, true) => Failure::unauthorized(format!("the token in `Authorization` does not allow {what}")),
        (false, false) => {
            Failure::unauthorized(format!("{what} needs a token: `Authorization: Bearer TOKEN`"))
        }
    }
    .into_response()
}

impl Caller {
    /// Whether instances of this service may be registered, renewed and taken away.
    pub(super) fn may_write(&self, service: &str) -> Result<(), Failure> {
        match &self.0.write {
            Write::All => Ok(()),
            Write::Services(services) if services.contains(service) => Ok(()),
            Write::Services(_) => {
                let error = format!("this token does not allow writing to the service `{service}`");
                Err(Failure::forbidden(error))
            }
        }
    }

    /// Whether what servers say may be overridden.
    pub(super) fn may_override(&self) -> Result<(), Failure> {
        match self.0.write {
            Write::All => Ok(()),
            Write::Services(_) => {
                Err(Failure::forbidden("overriding needs the write token, not a service's"))
            }
        }
    }
}

/// The token, if there is one.
fn bearer(request: &Request) -> Result<Option<&str>, Failure> {
    let Some(value) = request.headers().get(AUTHORIZATION) else { return Ok(None) };
    let ill_formed = || Failure::unauthorized("`Authorization` must be `Bearer TOKEN`");
    let (scheme, token) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(ill_formed)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(ill_formed()) }
}
