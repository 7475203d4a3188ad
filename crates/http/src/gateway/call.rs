//! `POST /rpc/Service.method`: a call.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use farcall_protocol::Codec;
use farcall_server::{Invocation, Response as Refused};
use farcall_transport::TlsInfo;

use super::Open;
use super::answer::{Failure, of_call};
use super::body::{Received, pass_over};
use super::head::CallHead;
use crate::opening::peer_of;

/// Makes the call. A client that goes away drops this, and stops the handler by it.
pub(super) async fn call(
    State(open): State<Open>,
    method: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    match method {
        Ok(Path(method)) => open.make(method, request).await.unwrap_or_else(Failure::into_response),
        Err(_) => Failure::invalid("the name of the method in the path is no UTF-8").into_response(),
    }
}

impl Open {
    async fn make(&self, method: String, request: Request) -> Result<Response, Failure> {
        let peer = peer_of(&request);
        let (parts, body) = request.into_parts();
        let CallHead { timeout, idempotent, metadata, token } = CallHead::read(&parts.headers)?;
        let idempotent = idempotent || self.is_idempotent(&method);
        let mut invocation =
            Invocation::new(method, Codec::Json, Bytes::new()).peer(peer).idempotent(idempotent);
        if let Some(metadata) = metadata {
            invocation = invocation.metadata(metadata);
        }
        if let Some(timeout) = timeout {
            invocation = invocation.timeout(timeout);
        }
        if let Some(tls) = parts.extensions.get::<Arc<TlsInfo>>() {
            invocation = invocation.tls(Arc::clone(tls));
        }
        let had_token = token.is_some();
        if let Some(token) = token {
            invocation = invocation.token(token);
        }
        // Before the body, for which those who may not call get no room.
        let invocation = match self.handle.identify(invocation).await {
            Ok(invocation) => invocation,
            Err(status) => {
                pass_over(&parts.headers, body).await;
                return Ok(of_call(&Refused::error(status), had_token));
            }
        };
        let Received { bytes, room } = self.receive(&parts.headers, body).await?;
        let called = self.handle.invoke(invocation.body(bytes)).await;
        drop(room);
        Ok(of_call(&called, had_token))
    }

    /// Whether the method is described so.
    fn is_idempotent(&self, name: &str) -> bool {
        let Some((service, method)) = name.rsplit_once('.') else { return false };
        let services = self.handle.services().iter().filter(|known| known.name == service);
        services.flat_map(|known| &known.methods).any(|known| known.name == method && known.idempotent)
    }
}
