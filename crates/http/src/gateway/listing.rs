//! `GET /rpc` and `GET /rpc/openapi.json`: the list of services, for clients that may call.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use farcall_protocol::describe::SERVICES;
use farcall_protocol::{Code, Codec, Status};
use farcall_server::Invocation;
use farcall_transport::TlsInfo;

use super::failure::Failure;
use super::head::token;
use super::openapi::document_of;
use super::response::{call_response, json_response, method_not_allowed};
use super::state::{DOCUMENT, GatewayState};
use crate::peer::peer_of;

/// Answers with the services, as `farcall.services` returns them.
pub(super) async fn services(State(state): State<GatewayState>, request: Request) -> Response {
    list_services(&state, request).await.unwrap_or_else(Failure::into_response)
}

/// Answers with the OpenAPI document, from which tools generate clients and forms. Every other path is a
/// call, which is a POST.
pub(super) async fn document(State(state): State<GatewayState>, request: Request) -> Response {
    if request.uri().path() != DOCUMENT {
        return method_not_allowed(request.uri().path());
    }
    match list_services(&state, request).await {
        Ok(response) if response.status().is_success() => match state.handle.schema().await {
            Ok(schema) => {
                let document = document_of(&schema, &state.options);
                json_response(Body::from(document.to_string()))
            }
            Err(status) => Failure::from(status).into_response(),
        },
        Ok(refused) => refused,
        Err(failure) => failure.into_response(),
    }
}

/// Lists the services by a call, so that the server's access rules apply, and a server without the method
/// lists nothing.
async fn list_services(state: &GatewayState, request: Request) -> Result<Response, Failure> {
    let (peer, token) = (peer_of(&request), token(request.headers())?);
    let tls = request.extensions().get::<Arc<TlsInfo>>().cloned();
    drop(request);
    let had_token = token.is_some();
    let mut invocation = Invocation::new(SERVICES, Codec::Json, Bytes::new()).peer(peer).idempotent(true);
    if let Some(tls) = tls {
        invocation = invocation.tls(tls);
    }
    if let Some(token) = token {
        invocation = invocation.token(token);
    }
    let outcome = state.handle.invoke(invocation).await;
    if outcome.status().is_some_and(|status| status.code == Code::Unimplemented) {
        let message = "this server is configured not to list its services";
        return Err(Status::refused(Code::Unimplemented, message).into());
    }
    Ok(call_response(&outcome, had_token))
}
