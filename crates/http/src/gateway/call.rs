//! `POST /rpc/Service.method`: one call.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use farcall_protocol::Codec;
use farcall_protocol::describe::{MethodInfo, ServiceInfo};
use farcall_server::{Invocation, Response as ServerResponse};
use farcall_transport::TlsInfo;

use super::body::Received;
use super::failure::Failure;
use super::head::CallHead;
use super::response::{call_response, call_response_with};
use super::state::GatewayState;
use super::stream_call::{StreamMethod, stream_call};
use crate::peer::peer_of;

/// Makes the call. If the client disconnects, this future is dropped, which stops the handler.
pub(super) async fn call(
    State(state): State<GatewayState>,
    method: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    match method {
        Ok(Path(method)) => make_call(&state, method, request).await.unwrap_or_else(Failure::into_response),
        Err(_) => Failure::invalid("the method's name in the path is not UTF-8").into_response(),
    }
}

async fn make_call(state: &GatewayState, method: String, request: Request) -> Result<Response, Failure> {
    let peer = peer_of(&request);
    let (parts, body) = request.into_parts();
    let CallHead { timeout, idempotent, metadata, token } = CallHead::read(&parts.headers)?;
    let info = find(state.handle.services(), &method);
    let streams = info.filter(|info| info.streams.takes || info.streams.sends);
    let streams = streams.map(|info| StreamMethod::new(&method, info));
    let idempotent = idempotent || info.is_some_and(|info| info.idempotent);
    let mut invocation = Invocation::new(method, Codec::Json, Bytes::new()).peer(peer).idempotent(idempotent);
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
    // Before the body is read, so that unauthorized clients occupy no memory.
    let invocation = match state.handle.identify(invocation).await {
        Ok(invocation) => invocation,
        Err(status) => {
            state.bodies.discard(&parts.headers, body, peer.key()).await;
            return Ok(call_response(&ServerResponse::error(status), had_token));
        }
    };
    if let Some(method) = streams {
        return stream_call(state, &method, invocation, (&parts.headers, body), peer.key(), had_token).await;
    }
    let Received { bytes, held } = state.bodies.receive(&parts.headers, body, peer.key()).await?;
    let outcome = state.handle.invoke(invocation.body(bytes)).await;
    drop(held);
    let answer = state.answers.hold(outcome.body(), peer.key())?;
    Ok(call_response_with(&outcome, answer, had_token))
}

/// Returns the description of a method, if there is one.
fn find<'a>(services: &'a [ServiceInfo], name: &str) -> Option<&'a MethodInfo> {
    let (service, method) = name.rsplit_once('.')?;
    let services = services.iter().filter(|info| info.name == service);
    services.flat_map(|info| &info.methods).find(|info| info.name == method)
}
